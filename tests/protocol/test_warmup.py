"""An instance answers its model's warm-up samples before it is ready, every time it starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import models
from support.clients import eventually, get, index, post_json, statistics, unharmed
from support.servers import RunningServer, serving

#: Notes what each execution gets, and fails on a value above 100.
NOTES = """
    import json
    from pathlib import Path

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.file = Path(args["model_repository"], "seen")

        def execute(self, requests):
            arrays = [pb_utils.get_input_tensor_by_name(r, "IN").as_numpy() for r in requests]
            with open(self.file, "a") as file:
                print(json.dumps([array.tolist() for array in arrays]), file=file)
            return [
                pb_utils.InferenceResponse(error=pb_utils.TritonError("too hot"))
                if (array > 100).any()
                else pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])
                for array in arrays
            ]
"""
DECOUPLED = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                tensor = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                for _ in range(3):
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor)]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


def sample(source: str, batch_size: int = 1, count: int = 1) -> str:
    return f"""
        model_warmup {{
          name: "sample" batch_size: {batch_size} count: {count}
          inputs {{ key: "IN" value {{ data_type: TYPE_INT32 dims: 2 {source} }} }}
        }}
    """


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name, more in (
        ("warm", sample("zero_data: true", 2, 2) + sample('input_data_file: "sevens"')),
        ("hot", sample('input_data_file: "hot"', 2)),
        ("unread", sample('input_data_file: "none"')),
        ("twins", sample("zero_data: true") + "instance_group { count: 2 kind: KIND_CPU }"),
    ):
        config = models.identity_config("TYPE_INT32", max_batch_size=4, dims=(2,), more=more)
        model = models.python_model(folder, name, NOTES, config)
        (model / "warmup").mkdir()
        (model / "warmup" / "sevens").write_bytes((7).to_bytes(4, "little") * 2)
        (model / "warmup" / "hot").write_bytes((700).to_bytes(4, "little") * 2)
    many = "model_transaction_policy { decoupled: true }" + sample("random_data: true", 2)
    config = models.identity_config("TYPE_INT32", max_batch_size=4, dims=(2,), more=many)
    models.python_model(folder, "many", DECOUPLED, config)
    large = sample("zero_data: true").replace("dims: 2", "dims: 1000000")
    models.python_identity(folder, "large", "TYPE_INT32", max_batch_size=1, more=large)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    arguments = ["--model-control-mode=explicit", "--load-model=many", "--load-model=large"]
    with serving(repository, arguments=arguments) as running, unharmed(running):
        yield running


def seen(repository: Path, model: str) -> list[object]:
    return [json.loads(line) for line in (repository / model / "seen").read_text().splitlines()]


def load(server: RunningServer, model: str) -> tuple[int, bytes]:
    answer = post_json(server, f"/v2/repository/models/{model}/load", {})
    return answer.status, answer.body


def test_the_samples_are_run_in_order_and_enter_no_statistics(
    server: RunningServer, repository: Path
) -> None:
    assert load(server, "warm") == (200, b"")

    two_zeros = [[[0, 0]], [[0, 0]]]
    assert seen(repository, "warm") == [two_zeros, two_zeros, [[[7, 7]]]]
    found = statistics(server, "warm")
    assert found["execution_count"] == found["inference_stats"]["success"]["count"] == 0
    assert found["batch_stats"] == []
    post_json(server, "/v2/repository/models/warm/unload", {})
    eventually(lambda: not server.workers("warm"), "the worker has ended")


def test_a_sample_that_fails_fails_the_load(server: RunningServer) -> None:
    status, body = load(server, "hot")

    assert status == 400
    assert json.loads(body)["error"] == (
        "load failed for model 'hot': version 1 is at UNAVAILABLE state: Invalid argument: "
        "failed to run warmup sample 'sample': too hot; too hot; ;\n"
    )
    assert index(server)["hot", "1"][0] == "UNAVAILABLE"
    post_json(server, "/v2/repository/models/hot/unload", {})


def test_a_sample_that_cannot_be_prepared_fails_the_load(server: RunningServer) -> None:
    status, body = load(server, "unread")

    assert status == 400
    assert json.loads(body)["error"] == (
        "load failed for model 'unread': version 1 is at UNAVAILABLE state: Internal: "
        "failed to open text file for read warmup/none, of input 'IN': No such file or directory;\n"
    )
    post_json(server, "/v2/repository/models/unread/unload", {})


def test_every_instance_is_warmed_up(server: RunningServer, repository: Path) -> None:
    (repository / "twins" / "seen").unlink(missing_ok=True)
    assert load(server, "twins")[0] == 200

    assert seen(repository, "twins") == [[[[0, 0]]]] * 2
    post_json(server, "/v2/repository/models/twins/unload", {})
    eventually(lambda: not server.workers("twins"), "the workers have ended")


def test_a_worker_that_is_started_again_is_warmed_up_again(
    server: RunningServer, repository: Path
) -> None:
    (repository / "twins" / "seen").unlink(missing_ok=True)
    assert load(server, "twins")[0] == 200
    server.workers("twins")[0].kill()

    eventually(lambda: len(seen(repository, "twins")) == 3, "the sample is run again")

    eventually(lambda: len(server.workers("twins")) == 2, "the worker is back")
    post_json(server, "/v2/repository/models/twins/unload", {})
    eventually(lambda: not server.workers("twins"), "the workers have ended")


@pytest.mark.parametrize("model", ["many", "large"])
def test_decoupled_models_and_large_samples_are_warmed_up(
    server: RunningServer, model: str
) -> None:
    assert get(server, f"/v2/models/{model}/ready").status == 200
    assert statistics(server, model)["inference_stats"]["success"]["count"] == 0
