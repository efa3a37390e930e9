"""Python models of the kinds that Triton's documentation shows, written anew."""

from __future__ import annotations

from pathlib import Path

from .models import python_model, write

#: Reads its output types from the configuration; says on finalizing that it did.
ADD_SUB = """
    import json

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.model_config = model_config = json.loads(args["model_config"])
            types = {}
            for name in ("OUTPUT0", "OUTPUT1"):
                config = pb_utils.get_output_config_by_name(model_config, name)
                types[name] = pb_utils.triton_string_to_numpy(config["data_type"])
            self.output0_dtype, self.output1_dtype = types["OUTPUT0"], types["OUTPUT1"]

        def execute(self, requests):
            responses = []
            for request in requests:
                one = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
                two = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
                total = pb_utils.Tensor("OUTPUT0", (one + two).astype(self.output0_dtype))
                difference = pb_utils.Tensor("OUTPUT1", (one - two).astype(self.output1_dtype))
                responses.append(pb_utils.InferenceResponse(output_tensors=[total, difference]))
            return responses

        def finalize(self):
            print("Cleaning up...")
"""
_PAIR = """
    backend: "python"
    input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
            { name: "INPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
             { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""

#: Completes a configuration that there is none of.
AUTO_COMPLETE = """
        @staticmethod
        def auto_complete_config(auto_complete_model_config):
            config = auto_complete_model_config
            inputs = [{"name": name, "data_type": "TYPE_FP32", "dims": [4]}
                      for name in ("INPUT0", "INPUT1")]
            outputs = [{"name": name, "data_type": "TYPE_FP32", "dims": [4]}
                       for name in ("OUTPUT0", "OUTPUT1")]
            known = config.as_dict()
            names = {kind: [tensor["name"] for tensor in known[kind]]
                     for kind in ("input", "output")}
            for tensor in inputs:
                if tensor["name"] not in names["input"]:
                    config.add_input(tensor)
            for tensor in outputs:
                if tensor["name"] not in names["output"]:
                    config.add_output(tensor)
            config.set_max_batch_size(MOST)
            DYNAMIC
            return config
"""

#: Sums two tensors by a module of PyTorch, in and out by DLPack.
PYTORCH = """
    import torch
    import triton_python_backend_utils as pb_utils
    from torch import nn
    from torch.utils.dlpack import from_dlpack, to_dlpack

    class AddSubNet(nn.Module):
        def forward(self, one, two):
            return one + two, one - two

    class TritonPythonModel:
        def initialize(self, args):
            self.net = AddSubNet()

        def execute(self, requests):
            responses = []
            for request in requests:
                one, two = (
                    from_dlpack(pb_utils.get_input_tensor_by_name(request, name).to_dlpack())
                    for name in ("INPUT0", "INPUT1")
                )
                total, difference = self.net(one, two)
                responses.append(pb_utils.InferenceResponse([
                    pb_utils.Tensor.from_dlpack("OUTPUT0", to_dlpack(total)),
                    pb_utils.Tensor.from_dlpack("OUTPUT1", difference),
                ]))
            return responses
"""

#: Puts its network where its instance is, and says where that was.
INSTANCE_KIND = """
    import numpy as np
    import torch
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            on_gpu = args["model_instance_kind"] == "GPU"
            device = f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu"
            self.device = torch.device(device)
            self.net = torch.nn.Linear(4, 4, bias=False).to(self.device)
            with torch.no_grad():
                self.net.weight.copy_(2 * torch.eye(4))

        def execute(self, requests):
            responses = []
            for request in requests:
                tensor = pb_utils.get_input_tensor_by_name(request, "INPUT")
                given = torch.from_numpy(tensor.as_numpy()).to(self.device)
                with torch.no_grad():
                    found = self.net(given)
                where = np.array([str(self.device)], np.object_)
                responses.append(pb_utils.InferenceResponse([
                    pb_utils.Tensor.from_dlpack("OUTPUT", torch.utils.dlpack.to_dlpack(found)),
                    pb_utils.Tensor("DEVICE", where),
                ]))
            return responses
"""
_INSTANCE_KIND = """
    backend: "python"
    input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
    output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ -1, 4 ] },
             { name: "DEVICE" data_type: TYPE_STRING dims: [ 1 ] } ]
    instance_group [ { kind: KIND } ]
"""

#: Decodes pictures, makes them as large as a network wants them, and normalises their colours.
PREPROCESS = """
    import io
    import json

    import numpy as np
    import triton_python_backend_utils as pb_utils
    from PIL import Image

    class TritonPythonModel:
        def initialize(self, args):
            config = json.loads(args["model_config"])
            output = pb_utils.get_output_config_by_name(config, "PIXELS")
            self.dtype = pb_utils.triton_string_to_numpy(output["data_type"])
            self.height, self.width = output["dims"][1:]

        def execute(self, requests):
            responses = []
            for request in requests:
                files = pb_utils.get_input_tensor_by_name(request, "FILE").as_numpy()
                pixels = np.stack([self.prepare(file) for file in files[:, 0]])
                tensor = pb_utils.Tensor("PIXELS", pixels.astype(self.dtype))
                responses.append(pb_utils.InferenceResponse([tensor]))
            return responses

        def prepare(self, file):
            picture = Image.open(io.BytesIO(file)).convert("RGB")
            size = (self.width, self.height)
            values = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32) / 255
            mean, deviation = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.5])
            return ((values - mean) / deviation).transpose(2, 0, 1)
"""
_PREPROCESS = """
    backend: "python"
    max_batch_size: 8
    input [ { name: "FILE" data_type: TYPE_STRING dims: [ 1 ] } ]
    output [ { name: "PIXELS" data_type: TYPE_FP32 dims: [ 3, 4, 6 ] } ]
    dynamic_batching { }
"""

#: Tells the mean of each colour.
COLOURS = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            pixels = pb_utils.get_input_tensor_by_name(request, "PIXELS").as_numpy()
            return pb_utils.InferenceResponse([pb_utils.Tensor("MEAN", pixels.mean((2, 3)))])
"""
_COLOURS = """
    backend: "python"
    max_batch_size: 8
    input [ { name: "PIXELS" data_type: TYPE_FP32 dims: [ 3, 4, 6 ] } ]
    output [ { name: "MEAN" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
_PIPELINE = """
    platform: "ensemble"
    max_batch_size: 8
    input [ { name: "FILE" data_type: TYPE_STRING dims: [ 1 ] } ]
    output [ { name: "MEAN" data_type: TYPE_FP32 dims: [ 3 ] } ]
    ensemble_scheduling { step [
      { model_name: "preprocess" model_version: -1
        input_map { key: "FILE" value: "FILE" } output_map { key: "PIXELS" value: "pixels" } },
      { model_name: "colours" model_version: -1
        input_map { key: "PIXELS" value: "pixels" } output_map { key: "MEAN" value: "MEAN" } }
    ] }
"""

#: Makes all kinds of metrics, and tells their values while it counts.
CUSTOM_METRICS = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.metric_family = pb_utils.MetricFamily(
                name="requests_process_latency_ns",
                description="Cumulative time spent processing requests",
                kind=pb_utils.MetricFamily.COUNTER,
            )
            labels = {"model": args["model_name"], "version": args["model_version"]}
            self.metric = self.metric_family.Metric(labels=labels)

        def execute(self, requests):
            responses = []
            for request in requests:
                took = float(pb_utils.get_input_tensor_by_name(request, "NS").as_numpy()[0])
                self.metric.increment(took)
                logger = pb_utils.Logger
                logger.log_info("Cumulative requests processing latency: "
                                f"{self.metric.value()}")
                total = np.array([self.metric.value()], np.float32)
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("TOTAL", total)]))
            return responses
"""
_CUSTOM_METRICS = """
    backend: "python"
    input [ { name: "NS" data_type: TYPE_FP32 dims: [ 1 ] } ]
    output [ { name: "TOTAL" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""

#: Answers with the parameters of the request, as a tensor and as parameters.
PARAMETERS = """
    import json

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            parameters = json.loads(request.parameters())
            output = np.array([json.dumps(parameters, sort_keys=True)], np.object_)
            plain = {key: value for key, value in parameters.items()
                     if isinstance(value, (bool, int, str))}
            return pb_utils.InferenceResponse(
                [pb_utils.Tensor("SEEN", output)], parameters={"answered": True, **plain}
            )
"""
_PARAMETERS = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
    output [ { name: "SEEN" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


def add_sub(path: Path) -> None:
    """The model that adds and subtracts."""
    python_model(path, "add_sub", ADD_SUB, _PAIR)


def repository(path: Path) -> None:
    """All of them but those that use PyTorch."""
    add_sub(path)
    for name, most, dynamic in (
        ("batch_auto_complete", 4, "config.set_dynamic_batching()"),
        ("nobatch_auto_complete", 0, ""),
    ):
        complete = AUTO_COMPLETE.replace("MOST", str(most)).replace("DYNAMIC", dynamic)
        first = "        def initialize"
        code = ADD_SUB.replace(first, f"{complete}\n{first}")
        write(path / name / "1" / "model.py", code)
    python_model(path, "preprocess", PREPROCESS, _PREPROCESS)
    python_model(path, "colours", COLOURS, _COLOURS)
    write(path / "pipeline" / "config.pbtxt", _PIPELINE)
    (path / "pipeline" / "1").mkdir()
    python_model(path, "custom_metrics", CUSTOM_METRICS, _CUSTOM_METRICS)
    python_model(path, "parameters", PARAMETERS, _PARAMETERS)


def torch_repository(path: Path, kind: str = "KIND_CPU") -> None:
    """Those that use PyTorch."""
    python_model(path, "pytorch", PYTORCH, _PAIR)
    python_model(
        path, "instance_kind", INSTANCE_KIND, _INSTANCE_KIND.replace("KIND }", f"{kind} }}")
    )
