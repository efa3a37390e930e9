"""Backends that are a model.py in a folder of their own, as --backend-directory has them."""

from __future__ import annotations

import json
import queue
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from support import models
from support.clients import get, index, post_json
from support.servers import RunningServer, serving

#: As engines for language models are served: the model's folder holds a JSON file, answers come
#: from an event loop of the backend's own, word by word, and nothing is configured by hand.
WORDS = """
    import asyncio
    import json
    import os
    import threading

    import numpy as np
    import triton_python_backend_utils as pb_utils
    from words_engine import Engine

    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(config):
            given = {tensor["name"] for tensor in config.as_dict()["input"]}
            for name, data_type, optional in (
                ("text_input", "TYPE_STRING", False), ("stream", "TYPE_BOOL", True),
            ):
                if name not in given:
                    config.add_input({
                        "name": name, "data_type": data_type, "dims": [1], "optional": optional,
                    })
            config.add_output({"name": "text_output", "data_type": "TYPE_STRING", "dims": [-1]})
            config.set_model_transaction_policy({"decoupled": True})
            config.set_max_batch_size(0)
            return config

        def initialize(self, args):
            config = json.loads(args["model_config"])
            assert pb_utils.using_decoupled_model_transaction_policy(config)
            with open(os.path.join(pb_utils.get_model_dir(), "model.json")) as file:
                self.engine = Engine(**json.load(file))
            self.loop = asyncio.new_event_loop()
            self.thread = threading.Thread(target=self.loop.run_forever)
            self.thread.start()
            settings = json.loads(args["backend_config"])
            pb_utils.Logger.log_info(f"engine settings: {settings.get('engine')}")

        def execute(self, requests):
            for request in requests:
                asyncio.run_coroutine_threadsafe(self.generate(request), self.loop)

        async def generate(self, request):
            sender = request.get_response_sender()
            text = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
            stream = pb_utils.get_input_tensor_by_name(request, "stream")
            words = []
            async for word in self.engine.words(text):
                words.append(word)
                if stream is not None and stream.as_numpy()[0]:
                    sender.send(self.response(word))
            if stream is None or not stream.as_numpy()[0]:
                sender.send(self.response(" ".join(words)))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

        def response(self, text):
            tensor = pb_utils.Tensor("text_output", np.array([text.encode()], dtype=np.object_))
            return pb_utils.InferenceResponse([tensor])

        def finalize(self):
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
"""

ENGINE = """
    import asyncio

    class Engine:
        def __init__(self, suffix):
            self.suffix = suffix

        async def words(self, text):
            for word in text.split():
                await asyncio.sleep(0)
                yield word + self.suffix
"""


def backend(folder: Path, name: str, code: str) -> None:
    """A python-based backend in a folder of backends."""
    models.write(folder / name / "model.py", code)


def model(repository: Path, name: str, config: str, **files: str) -> None:
    """A model of such a backend."""
    models.write(repository / name / "config.pbtxt", config)
    (repository / name / "1").mkdir(parents=True)
    for path, text in files.items():
        models.write(repository / name / path.replace("__", "/").replace("_", "."), text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tmp_path_factory.mktemp("models")
    repository, backends = path / "repository", path / "backends"
    backend(backends, "words", WORDS)
    models.write(backends / "words" / "words_engine.py", ENGINE)
    (backends / "words" / "README.md").touch()
    backend(backends, "broken", "raise RuntimeError('not today')\n")
    backend(backends, "packed", models.IDENTITY_PY)
    (backends / "packed" / "pb_exec_env_model.py.tar.gz").touch()
    backend(backends, "native", models.IDENTITY_PY)
    (backends / "native" / "libtriton_native.so").touch()
    backend(backends, "echo", models.IDENTITY_PY)
    (backends / "python").mkdir()
    (backends / "python" / "libtriton_python.so").touch()
    for name, suffix in (("loud", "!"), ("asking", "?")):
        model(
            repository,
            name,
            'backend: "words" instance_group [ { count: 2 kind: KIND_CPU } ]',
            **{"1__model_json": json.dumps({"suffix": suffix})},
        )
    config = models.identity_config("TYPE_STRING", backend="words", dims=[1])
    model(repository, "configured", config, **{"1__model_json": '{"suffix": ""}'})
    models.python_identity(repository, "plain")
    for name in ("broken", "packed", "native", "missing"):
        model(repository, f"of_{name}", f'backend: "{name}"')
    model(repository, "outside", 'backend: "../backends/words"')
    model(repository, "e;cho", models.identity_config(backend="echo"))
    model(repository, "own", models.identity_config(backend="echo", more='runtime: "own.py"'))
    models.write(repository / "own" / "own.py", models.IDENTITY_PY)
    arguments = [
        f"--backend-directory={backends}",
        "--backend-config=words,engine=fast",
        "--backend-config=python,shm-default-byte-size=16777216",
        "--backend-config=python,thread-pool-size=4",
        "--backend-config=python,speed=9",
    ]
    cache = f"--environment-cache-directory={path / 'cache'}"
    with serving(repository, arguments=(*arguments, cache)) as running:
        yield running


def generated(server: RunningServer, name: str, text: str, *, stream: bool) -> list[str]:
    """What a model of the backend answers on a gRPC stream, as Triton's client reads it."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    inputs = [grpcclient.InferInput("text_input", [1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
    inputs.append(grpcclient.InferInput("stream", [1], "BOOL"))
    inputs[1].set_data_from_numpy(np.array([stream]))
    texts: list[str] = []
    with grpcclient.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(name, inputs, enable_empty_final_response=True)
        while True:
            result, error = answers.get(timeout=30)
            assert error is None, error
            response = result.get_response()
            if response.parameters["triton_final_response"].bool_param:
                return texts
            texts.append(result.as_numpy("text_output")[0].decode())


def test_a_model_of_it_answers_word_by_word(server: RunningServer) -> None:
    assert generated(server, "loud", "good day to you", stream=True) == [
        "good!", "day!", "to!", "you!",
    ]  # fmt: skip


def test_each_model_has_its_own_files(server: RunningServer) -> None:
    assert generated(server, "loud", "good day", stream=False) == ["good! day!"]
    assert generated(server, "asking", "good day", stream=False) == ["good? day?"]


def test_generate_works_without_an_optional_input(server: RunningServer) -> None:
    url = f"http://{server.http}/v2/models/asking/generate"
    with urlopen(url, json.dumps({"text_input": "who goes there"}).encode()) as answer:
        assert json.load(answer)["text_output"] == "who? goes? there?"


def test_it_completes_the_configuration_of_its_models(server: RunningServer) -> None:
    config = get(server, "/v2/models/loud/config").json
    assert (config["backend"], config["runtime"]) == ("words", "model.py")
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert [tensor["name"] for tensor in config["input"]] == ["text_input", "stream"]
    metadata = get(server, "/v2/models/loud").json
    assert metadata["platform"] == "words"
    assert metadata["outputs"] == [{"name": "text_output", "datatype": "BYTES", "shape": [-1]}]


def test_it_has_its_say_about_a_complete_configuration_too(server: RunningServer) -> None:
    config = get(server, "/v2/models/configured/config").json
    assert [tensor["name"] for tensor in config["output"]] == ["OUT", "text_output"]


def test_it_is_told_the_settings_that_are_meant_for_it(server: RunningServer) -> None:
    server.wait_for_line("engine settings: fast")


def test_a_runtime_of_the_model_s_own_runs_it(server: RunningServer) -> None:
    body = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [2]}]}
    answer = post_json(server, "/v2/models/own/infer", body).json
    assert answer["outputs"][0]["data"] == [2]
    assert get(server, "/v2/models/own/config").json["runtime"] == "own.py"


def test_python_models_are_as_ever_beside_a_folder_of_their_name(server: RunningServer) -> None:
    body = {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [2]}]}
    assert post_json(server, "/v2/models/plain/infer", body).json["outputs"][0]["data"] == [2]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("of_broken", "Internal: RuntimeError: not today, at .*broken/model.py"),
        ("of_missing", "Invalid argument: .*backend 'missing'.*searched: '.*/missing/model.py'"),
        ("outside", "Invalid argument: .*it is not the name of a folder"),
        ("of_native", "Unsupported: .*native/libtriton_native.so is a shared library of Triton's"),
        ("of_packed", "Internal: .*pb_exec_env_model.py.tar.gz' of model .*it is no tar archive"),
        ("e;cho", "Invalid argument: .*name of a Python model contains ;"),
    ],
)
def test_what_cannot_be_served_is_told(server: RunningServer, name: str, reason: str) -> None:
    state, told = index(server)[name, "1"]
    assert state == "UNAVAILABLE"
    assert re.search(reason, told), told


def test_an_unknown_setting_of_the_python_backend_is_warned_of_once(server: RunningServer) -> None:
    assert server.log.count("is not a setting of the python backend") == 1
    assert "--backend-config=python,speed is not a setting" in server.log
