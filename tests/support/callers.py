"""Build models that call others, after the examples of Triton's documentation."""

from __future__ import annotations

import json
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

from .models import python_model
from .servers import RunningServer

_CONFIG = """
    backend: "python"
    {more}
    input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }},
            {{ name: "INPUT1" data_type: TYPE_FP32 dims: [ -1 ] }} {inputs} ]
    output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }},
             {{ name: "OUTPUT1" data_type: TYPE_FP32 dims: [ -1 ] }} ]
"""
_MODEL_NAME = ', { name: "MODEL_NAME" data_type: TYPE_STRING dims: [ 1 ] }'

#: OUTPUT0 is the sum, OUTPUT1 the difference of the inputs.
ADD_SUB = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self._response(request) for request in requests]

        def _response(self, request):
            one, other = (pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                          for name in ("INPUT0", "INPUT1"))
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", one + other),
                                               pb_utils.Tensor("OUTPUT1", one - other)])
"""

#: Has the model MODEL_NAME answer, and answers with that.
SYNC = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                names = ("INPUT0", "INPUT1")
                tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in names]
                model = pb_utils.get_input_tensor_by_name(request, "MODEL_NAME").as_numpy()[0]
                asked = pb_utils.InferenceRequest(
                    model_name=model.decode(),
                    requested_output_names=["OUTPUT0", "OUTPUT1"],
                    inputs=tensors,
                )
                answer = asked.exec()
                if answer.has_error():
                    raise pb_utils.TritonModelException(answer.error().message())
                responses.append(pb_utils.InferenceResponse(answer.output_tensors()))
            return responses
"""

#: Has `add_sub` answer twice at a time: OUTPUT0 of the one, OUTPUT1 of the other.
ASYNC = """
    import asyncio
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        async def execute(self, requests):
            responses = []
            for request in requests:
                names = ("INPUT0", "INPUT1")
                tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in names]
                awaits = [
                    pb_utils.InferenceRequest(
                        model_name="add_sub", requested_output_names=[wanted], inputs=tensors
                    ).async_exec()
                    for wanted in ("OUTPUT0", "OUTPUT1")
                ]
                answers = await asyncio.gather(*awaits)
                for answer in answers:
                    if answer.has_error():
                        raise pb_utils.TritonModelException(answer.error().message())
                found = [answer.output_tensors()[0] for answer in answers]
                responses.append(pb_utils.InferenceResponse(found))
            return responses
"""

#: As many responses as IN says, each of them IN, from a thread of its own.
SQUARE = """
    import threading
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                thread = threading.Thread(target=self._answer, args=(request,))
                thread.daemon = True
                thread.start()

        def _answer(self, request):
            sender = request.get_response_sender()
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            for _ in range(int(value[0])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

#: The sum of all responses of the square model to IN.
DECOUPLED_SYNC = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                tensor = pb_utils.get_input_tensor_by_name(request, "IN")
                asked = pb_utils.InferenceRequest(
                    model_name="square", requested_output_names=["OUT"], inputs=[tensor]
                )
                total = np.zeros(1, np.int32)
                for answer in asked.exec(decoupled=True):
                    if answer.has_error():
                        raise pb_utils.TritonModelException(answer.error().message())
                    if len(answer.output_tensors()) > 0:
                        found = pb_utils.get_output_tensor_by_name(answer, "OUT")
                        total += found.as_numpy()
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total)]))
            return responses
"""

#: The same of two requests at a time.
DECOUPLED_ASYNC = """
    import asyncio
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        async def execute(self, requests):
            responses = []
            for request in requests:
                tensor = pb_utils.get_input_tensor_by_name(request, "IN")
                awaits = [
                    pb_utils.InferenceRequest(
                        model_name="square", requested_output_names=["OUT"], inputs=[tensor]
                    ).async_exec(decoupled=True)
                    for _ in range(2)
                ]
                total = np.zeros(1, np.int32)
                for answers in await asyncio.gather(*awaits):
                    for answer in answers:
                        if answer.has_error():
                            raise pb_utils.TritonModelException(answer.error().message())
                        for found in answer.output_tensors():
                            total += found.as_numpy()
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total)]))
            return responses
"""

#: Runs the Python of DO, where `call` asks a model, and answers with what is left in `found`.
SCRIPT = """
    import asyncio
    import json
    import threading
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import triton_python_backend_utils as pb_utils

    def request(model, value=1.0, name="IN", kind=np.float32, **more):
        array = value if isinstance(value, np.ndarray) else np.array([value], kind)
        more.setdefault("requested_output_names", ["OUT"])
        tensors = [pb_utils.Tensor(name, array)]
        return pb_utils.InferenceRequest(model_name=model, inputs=tensors, **more)

    def told(response):
        if response.has_error():
            return response.error().message()
        return [tensor.as_numpy().tolist() for tensor in response.output_tensors()]

    def call(model, *args, **more):
        return told(request(model, *args, **more).exec())

    class TritonPythonModel:
        def initialize(self, args):
            self._names = {**globals(), "args": args}

        def {EXECUTE}(self, requests):
            return [self._response(one) for one in requests]

        async def {ASYNC_EXECUTE}(self, requests):
            names = {**self._names, "requests": requests}
            do = pb_utils.get_input_tensor_by_name(requests[0], "DO").as_numpy()[0].decode()
            code = "async def run():\\n    " + do.replace("\\n", "\\n    ") + "\\n    return found"
            exec(code, names)
            return [self._answer(await names["run"]()) for _ in requests]

        def _response(self, one):
            names = {**self._names, "this": one}
            exec(pb_utils.get_input_tensor_by_name(one, "DO").as_numpy()[0].decode(), names)
            return self._answer(names["found"])

        def _answer(self, found):
            array = np.array([json.dumps(found)], np.object_)
            return pb_utils.InferenceResponse([pb_utils.Tensor("FOUND", array)])
"""


def add_sub(repository: Path, name: str = "add_sub", more: str = "") -> Path:
    """The model that adds and subtracts."""
    return python_model(repository, name, ADD_SUB, _CONFIG.format(inputs="", more=more))


def add_sub_by(repository: Path, name: str, code: str, *, named: bool = False) -> Path:
    """A model of the same tensors, which has others do it; `named` by the input MODEL_NAME."""
    config = _CONFIG.format(inputs=_MODEL_NAME if named else "", more="")
    return python_model(repository, name, code, config)


def of_integer(repository: Path, name: str, code: str, more: str = "") -> Path:
    """A model with an integer IN and OUT."""
    tensors = "".join(
        f'{field} [ {{ name: "{tensor}" data_type: TYPE_INT32 dims: [ 1 ] }} ]\n'
        for field, tensor in (("input", "IN"), ("output", "OUT"))
    )
    return python_model(repository, name, code, f'backend: "python"\n{tensors}{more}')


def decoupled_square(repository: Path, name: str = "square") -> Path:
    """The decoupled model that answers IN times."""
    return of_integer(repository, name, SQUARE, "model_transaction_policy { decoupled: true }")


def scripted(repository: Path, name: str, more: str = "", *, coroutine: bool = False) -> Path:
    """A model that runs the Python it is sent; as a `coroutine` it may await."""
    names = ("execute", "_") if not coroutine else ("_", "execute")
    code = SCRIPT.replace("{EXECUTE}", names[0]).replace("{ASYNC_EXECUTE}", names[1])
    config = f"""
        backend: "python"
        input [ {{ name: "DO" data_type: TYPE_STRING dims: [ 1 ] }} ]
        output [ {{ name: "FOUND" data_type: TYPE_STRING dims: [ 1 ] }} ]
        {more}
    """
    return python_model(repository, name, code, config)


def run(server: RunningServer, model: str, code: str, timeout: float = 60.0, **more: Any) -> Any:
    """Have a scripted model run this, and return what it found."""
    tensor = grpc.InferInput("DO", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([code], np.object_))
    with grpc.InferenceServerClient(server.grpc) as client:
        found = client.infer(model, [tensor], client_timeout=timeout, **more).as_numpy("FOUND")
    assert found is not None
    return json.loads(found[0])


def infer(server: RunningServer, model: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a model over HTTP; the outputs as arrays."""
    tensors: list[Any] = []
    for name, value in inputs.items():
        array = np.array([value], np.object_) if isinstance(value, str) else value
        kind = {"f": "FP32", "i": "INT32", "O": "BYTES"}[array.dtype.kind]
        tensor = http.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    with http.InferenceServerClient(server.http, network_timeout=60.0) as client:
        result = client.infer(model, tensors)
        return {
            one["name"]: result.as_numpy(one["name"]) for one in result.get_response()["outputs"]
        }


def stream(server: RunningServer, model: str, inputs: list[Any]) -> list[Any]:
    """All results of one request to a decoupled model, errors among them, until the final one."""
    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(model, inputs, enable_empty_final_response=True)
        found: list[Any] = []
        while True:
            result, error = answers.get(timeout=30)
            found.append(result if error is None else error)
            if error is not None:
                return found
            if result.get_response().parameters["triton_final_response"].bool_param:
                return found
