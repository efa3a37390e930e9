"""A model that is broken fails alone and says why; the others serve."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import models, onnx_models
from support.clients import get, index, post_json
from support.servers import RunningServer, serving

PYTHON = models.identity_config()
ONNX = 'backend: "onnxruntime"\n'
FINE = """
    class TritonPythonModel:
        def execute(self, requests):
            return []
"""
NOT_TODAY = """
    class TritonPythonModel:
        def initialize(self, args):
            raise RuntimeError("not today")

        def execute(self, requests):
            return []
"""
SEQUENCE = models.identity_config(
    more="""sequence_batching {
      state { input_name: "IN" output_name: "S" data_type: TYPE_FP32 dims: 1 }
    }"""
)
ENSEMBLE = """
    platform: "ensemble"
    input { name: "IN" data_type: TYPE_FP32 dims: 4 }
    output { name: "OUT" data_type: TYPE_FP32 dims: 4 }
    ensemble_scheduling {
      step {
        model_name: "syntax" model_version: -1
        input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
      }
    }
"""

#: Of each model its files and what the reason in the index must say.
BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "syntax": (
        {"config.pbtxt": PYTHON, "1/model.py": "class TritonPythonModel\n    pass\n"},
        r"Internal: SyntaxError: expected ':' \(model.py, line 1\)",
    ),
    "import": (
        {"config.pbtxt": PYTHON, "1/model.py": "import no_such_module\n"},
        r"ModuleNotFoundError: No module named 'no_such_module'.*model\.py\(1\)",
    ),
    "initialize": (
        {"config.pbtxt": PYTHON, "1/model.py": NOT_TODAY},
        r"RuntimeError: not today, at .*/initialize/1/model\.py\(\d+\): initialize",
    ),
    "exits": (
        {"config.pbtxt": PYTHON, "1/model.py": "import os\nos._exit(5)\n"},
        r"the worker of model instance 'exits_0' exited with status 5",
    ),
    "no_class": (
        {"config.pbtxt": PYTHON, "1/model.py": "pass\n"},
        r"does not define the class `TritonPythonModel`",
    ),
    "no_execute": (
        {"config.pbtxt": PYTHON, "1/model.py": "class TritonPythonModel:\n    pass\n"},
        r"does not implement `execute` method",
    ),
    "no_model_py": (
        {"config.pbtxt": PYTHON, "1/other.py": ""},
        r"Python model file not found in '.*/no_model_py/1/model\.py'",
    ),
    "corrupt_onnx": (
        {"config.pbtxt": ONNX, "1/model.onnx": "this is no protobuf"},
        r"unable to load model 'corrupt_onnx': onnx runtime error \d+: .*Protobuf parsing failed",
    ),
    "no_onnx": (
        {"config.pbtxt": ONNX, "1/readme.txt": ""},
        r"model\.onnx",
    ),
    "no_version": (
        {"config.pbtxt": PYTHON},
        r"at least one version must be available under the version policy of model 'no_version'",
    ),
    "policy": (
        {
            "config.pbtxt": PYTHON + "version_policy { specific { versions: [ 7 ] } }",
            "1/model.py": FINE,
        },
        r"at least one version must be available .* the policy names \[7\]",
    ),
    "no_pbtxt": (
        {"config.pbtxt": "this is : no { text proto", "1/model.py": FINE},
        r"failed to read text proto from .*/no_pbtxt/config\.pbtxt: line 1, column \d+",
    ),
    "unknown_field": (
        {"config.pbtxt": PYTHON + "max_bach_size: 4\n", "1/model.py": FINE},
        r"config\.pbtxt: line \d+, column 1: unknown field 'max_bach_size'.*max_batch_size",
    ),
    "unknown_value": (
        {"config.pbtxt": PYTHON.replace("TYPE_FP32", "TYPE_FLOAT"), "1/model.py": FINE},
        r"has no value TYPE_FLOAT: did you mean TYPE_FP32\?",
    ),
    "other_name": (
        {"config.pbtxt": PYTHON + 'name: "somebody"\n', "1/model.py": FINE},
        r"unexpected directory name 'other_name' for model 'somebody', directory name must equal",
    ),
    "zero_dim": (
        {"config.pbtxt": PYTHON.replace("[-1]", "[0]"), "1/model.py": FINE},
        r"config\.pbtxt:\d+: model input 'IN' has 0 as dimension 0",
    ),
    "gpu": (
        {
            "config.pbtxt": PYTHON.replace('"python"', '"identity"').replace('"IN"', '"INPUT0"')
            + "instance_group { kind: KIND_GPU }\n",
            "1/.keep": "",
        },
        r"instance group 'gpu_0' has kind KIND_GPU, but no GPU is usable",
    ),
    "python_gpu": (
        {
            "config.pbtxt": PYTHON + "instance_group { kind: KIND_GPU gpus: [ 77 ] }\n",
            "1/model.py": FINE,
        },
        r"KIND_GPU and asks for GPU 77",
    ),
    "no_backend": (
        {"config.pbtxt": PYTHON.replace('"python"', '"no_such_backend"'), "1/model.py": FINE},
        r"unable to find backend library for backend 'no_such_backend'",
    ),
    "tensorrt": (
        {"config.pbtxt": 'platform: "tensorrt_plan"\n', "1/model.plan": ""},
        r"tritonpy-supervisor\[tensorrt\]",
    ),
    "savedmodel": (
        {"config.pbtxt": 'platform: "tensorflow_savedmodel"\n', "1/model.savedmodel/x": ""},
        r"tritonpy-supervisor\[tensorflow\]",
    ),
    "sequence": (
        {"config.pbtxt": SEQUENCE, "1/model.py": FINE},
        r"input 'IN' is given twice",
    ),
    "ensemble": (
        {"config.pbtxt": ENSEMBLE, "1/.keep": ""},
        r"ensemble 'ensemble' depends on 'syntax' which has no loaded version",
    ),
    "labels": (
        {
            "config.pbtxt": PYTHON.replace(
                '"OUT" data_type', '"OUT" label_filename: "none.txt" data_type'
            ),
            "1/model.py": FINE,
        },
        r"label file 'none\.txt' of output 'OUT'",
    ),
    "nothing": ({"1/.keep": ""}, r"Could not determine backend for model 'nothing'"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    one = tmp_path_factory.mktemp("one")
    two = tmp_path_factory.mktemp("two")
    for name, (files, _) in BROKEN.items():
        for path, text in files.items():
            models.write(one / name / path, text)
    models.python_identity(one, "good")
    onnx_models.save(onnx_models.identity("FP32", [4]), two / "elsewhere" / "1")
    models.python_identity(one, "twice")
    models.python_identity(two, "twice")
    with serving(one, two) as running:
        yield running


@pytest.mark.parametrize("model", BROKEN)
def test_a_broken_model_says_why(server: RunningServer, model: str) -> None:
    ((version, (state, reason)),) = (
        (version, found) for (name, version), found in index(server).items() if name == model
    )
    assert state == "UNAVAILABLE"
    assert re.search(BROKEN[model][1], reason, re.DOTALL), reason
    assert "Traceback" not in reason
    assert version in ("", "1")
    table = server.log[server.log.index("| Model ") :]
    (row,) = re.findall(rf"\| {model} +\| [1-] +\| (.*)", table)
    assert row.startswith(f"UNAVAILABLE: {reason.splitlines()[0]}")


@pytest.mark.parametrize("model", BROKEN)
def test_a_broken_model_has_no_available_version(server: RunningServer, model: str) -> None:
    message = f"Request for unknown model: '{model}' has no available versions"
    answer = post_json(server, f"/v2/models/{model}/infer", {"inputs": []})
    assert (answer.status, answer.error) == (404, message)
    assert get(server, f"/v2/models/{model}").error == message
    answer = get(server, f"/v2/models/{model}/stats")
    assert (answer.status, answer.error) == (400, f"requested model '{model}' is not available")


def test_a_version_that_failed_is_not_at_ready_state(server: RunningServer) -> None:
    answer = get(server, "/v2/models/syntax/versions/1")
    assert (answer.status, answer.error) == (
        503,
        "Request for unknown model: 'syntax' version 1 is not at ready state",
    )


def test_a_model_that_is_in_two_repositories_is_served_from_neither(server: RunningServer) -> None:
    state, reason = index(server)["twice", ""]
    assert state == "UNAVAILABLE"
    assert reason == "model appears in two or more repositories"


def test_the_others_serve_from_all_repositories(server: RunningServer) -> None:
    ready = index(server, ready=True)
    assert ready == {("good", "1"): ("READY", ""), ("elsewhere", "1"): ("READY", "")}
    tensor = {"name": "IN", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}
    answer = post_json(server, "/v2/models/good/infer", {"inputs": [tensor]})
    assert answer.json["outputs"][0]["data"] == [1, 2, 3, 4]
    tensor["name"] = "INPUT0"
    answer = post_json(server, "/v2/models/elsewhere/infer", {"inputs": [tensor]})
    assert answer.json["outputs"][0]["data"] == [1, 2, 3, 4]


def test_the_server_is_live_but_not_ready(server: RunningServer) -> None:
    assert get(server, "/v2/health/live").status == 200
    answer = get(server, "/v2/health/ready")
    assert (answer.status, answer.body) == (400, b"")


def test_what_failed_has_left_no_worker(server: RunningServer) -> None:
    assert len(server.workers()) == 2


def test_without_strict_readiness_the_server_is_ready_all_the_same(tmp_path: Path) -> None:
    models.python_identity(tmp_path, "good")
    models.python_model(tmp_path, "bad", "raise ValueError", PYTHON)
    arguments = ["--strict-readiness=false"]
    with serving(tmp_path, arguments=arguments) as running:
        assert get(running, "/v2/health/ready").status == 200
        assert get(running, "/v2/models/good/ready").status == 200
