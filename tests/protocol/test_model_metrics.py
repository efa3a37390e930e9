"""Metrics that python models make, on the metrics service of a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import models
from support.clients import (
    TIMEOUT,
    eventually,
    grpc_stub,
    infer_request,
    input_tensor,
    metrics,
    post_json,
)
from support.servers import RunningServer, serving

#: Does what the parameters of a request say to the metrics that it makes when it is loaded.
CODE = """
    import json
    import os

    import numpy as np
    import triton_python_backend_utils as pb_utils

    FAMILY = pb_utils.MetricFamily


    class TritonPythonModel:
        def initialize(self, args):
            name = args["model_name"].split("_")[0]
            self.families = {
                "counter": FAMILY(f"{name}_requests", "Requests", FAMILY.COUNTER),
                "gauge": FAMILY(f"{name}_load", "Load", FAMILY.GAUGE),
                "histogram": FAMILY(f"{name}_sizes", "Sizes", FAMILY.HISTOGRAM),
            }
            labels = {"by": "me"}
            self.metrics = {
                kind: family.Metric(labels, [1.0, 10.0] if kind == "histogram" else None)
                for kind, family in self.families.items()
            }

        def execute(self, requests):
            return [self.do(**json.loads(request.parameters())) for request in requests]

        def do(self, do, metric="", value=0):
            text = "done"
            if do == "die":
                os._exit(3)
            elif do == "let go":
                del self.families[metric]
            elif do == "conflict":
                try:
                    FAMILY(metric, "Other", FAMILY.GAUGE)
                except pb_utils.TritonModelException as error:
                    text = str(error)
            elif do == "value":
                text = str(self.metrics[metric].value())
            else:
                getattr(self.metrics[metric], do)(value)
            output = pb_utils.Tensor("OUT", np.array([text], np.object_))
            return pb_utils.InferenceResponse([output])
"""

#: Counts in a thread of its own, after it has answered.
LATE = """
    import threading

    import numpy as np
    import triton_python_backend_utils as pb_utils

    FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


    class TritonPythonModel:
        def initialize(self, args):
            self.family = pb_utils.MetricFamily("late", "Late", pb_utils.MetricFamily.COUNTER)
            self.metric = self.family.Metric()

        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                threading.Thread(target=self.answer, args=(sender,)).start()

        def answer(self, sender):
            self.metric.increment(1)
            output = pb_utils.Tensor("OUT", np.array(["done"], np.object_))
            sender.send(pb_utils.InferenceResponse([output]), FINAL)
            self.metric.increment(10)
"""


def config(count: int = 1, more: str = "") -> str:
    return f"""
        backend: "python"
        max_batch_size: 0
        output [ {{ name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }} ]
        input [ {{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] optional: true }} ]
        instance_group [ {{ kind: KIND_CPU count: {count} }} ]
        {more}
    """


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name in ("one", "two", "shared_a", "shared_b", "mortal", "dropping"):
        models.python_model(repository, name, CODE, config(2 if name == "two" else 1))
    decoupled = "model_transaction_policy { decoupled: true }"
    models.python_model(repository, "late", LATE, config(more=decoupled))
    arguments = ["--model-control-mode=explicit", "--load-model=*"]
    with serving(repository, arguments=arguments) as running:
        yield running


def do(server: RunningServer, model: str, do: str, **parameters: object) -> str:
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}
    document = {"inputs": [tensor], "parameters": {"do": do, **parameters}}
    answer = post_json(server, f"/v2/models/{model}/infer", document)
    if answer.status != 200:
        return answer.error
    return str(json.loads(answer.body)["outputs"][0]["data"][0])


def shown(server: RunningServer, prefix: str) -> dict[str, float]:
    return {name: value for name, value in metrics(server).items() if name.startswith(prefix)}


def test_all_kinds_are_shown_as_soon_as_the_answer_is_there(server: RunningServer) -> None:
    assert do(server, "one", "increment", metric="counter", value=2.5) == "done"
    assert do(server, "one", "set", metric="gauge", value=-3) == "done"
    assert do(server, "one", "observe", metric="histogram", value=4) == "done"

    assert shown(server, "one_") == {
        'one_requests{by="me"}': 2.5,
        'one_load{by="me"}': -3.0,
        'one_sizes_count{by="me"}': 1.0,
        'one_sizes_sum{by="me"}': 4.0,
        'one_sizes_bucket{by="me",le="1"}': 0.0,
        'one_sizes_bucket{by="me",le="10"}': 1.0,
        'one_sizes_bucket{by="me",le="+Inf"}': 1.0,
    }
    assert do(server, "one", "value", metric="counter") == "2.5"


def test_a_wrong_operation_is_the_model_s_exception(server: RunningServer) -> None:
    error = do(server, "one", "set", metric="counter", value=1)

    assert error == (
        "Failed to process the request(s) for model 'one_0_0', message: TritonModelException: "
        "Failed to set metric value: Failed to process the request for model 'one_0_0', message: "
        "TRITONSERVER_METRIC_KIND_COUNTER does not support Set"
    )


def test_instances_of_a_model_count_together(server: RunningServer) -> None:
    for _ in range(10):
        do(server, "two", "increment", metric="counter", value=1)

    assert shown(server, "two_requests") == {'two_requests{by="me"}': 10.0}


def test_models_that_make_the_same_metrics_count_together(server: RunningServer) -> None:
    do(server, "shared_a", "increment", metric="counter", value=1)
    do(server, "shared_b", "increment", metric="counter", value=2)
    assert shown(server, "shared_requests") == {'shared_requests{by="me"}': 3.0}

    assert post_json(server, "/v2/repository/models/shared_a/unload", {}).status == 200
    eventually(lambda: not server.workers("shared_a"), "shared_a is gone")
    assert shown(server, "shared_requests") == {'shared_requests{by="me"}': 3.0}

    assert post_json(server, "/v2/repository/models/shared_b/unload", {}).status == 200
    eventually(lambda: not shown(server, "shared_"), "its metrics are gone")


def test_a_name_that_another_model_uses_for_another_kind_is_refused(server: RunningServer) -> None:
    for name in ("two_requests", "one_requests"):
        assert do(server, "one", "conflict", metric=name) == (
            "Error when creating MetricFamily: Failed to process the request for model "
            "'one_0_0', message: Family name already exists with different type"
        )
    refusal = do(server, "one", "conflict", metric="nv_inference_count")
    assert "Family name 'nv_inference_count' is one of the server's" in refusal


def test_a_counter_goes_on_after_its_worker_has_died(server: RunningServer) -> None:
    do(server, "mortal", "increment", metric="counter", value=5)
    do(server, "mortal", "increment", metric="gauge", value=5)

    assert "exited with status 3" in do(server, "mortal", "die")
    server.wait_for_line("model instance 'mortal_0_0' serves again")

    assert shown(server, "mortal_requests") == {'mortal_requests{by="me"}': 5.0}
    assert shown(server, "mortal_load") == {'mortal_load{by="me"}': 0.0}
    do(server, "mortal", "increment", metric="counter", value=1)
    assert shown(server, "mortal_requests") == {'mortal_requests{by="me"}': 6.0}


def test_a_family_that_is_let_go_of_disappears(server: RunningServer) -> None:
    assert len(shown(server, "dropping_sizes")) == 5
    do(server, "dropping", "let go", metric="histogram")

    assert not shown(server, "dropping_sizes")
    assert shown(server, "dropping_requests")


def test_what_is_counted_after_the_answer_is_shown_by_itself(server: RunningServer) -> None:
    tensor = input_tensor("IN", "FP32", [1])
    message = infer_request("late", [tensor], [np.ones(1, np.float32).tobytes()])
    with grpc_stub(server) as stub:
        (answer,) = stub.ModelStreamInfer(iter([message]), timeout=TIMEOUT)
    assert not answer.error_message
    assert shown(server, "late")["late"] in (1.0, 11.0)

    eventually(lambda: shown(server, "late") == {"late": 11.0}, "what came late is shown")


def test_without_a_metrics_service_models_count_for_themselves(tmp_path: Path) -> None:
    models.python_model(tmp_path, "one", CODE, config())
    arguments = ["--allow-metrics=false"]
    with serving(tmp_path, arguments=arguments, services=("http", "grpc")) as running:
        assert do(running, "one", "increment", metric="counter", value=2) == "done"
        assert do(running, "one", "value", metric="counter") == "2.0"
