"""ONNX models: every datatype and shape, what is completed, what is refused in which words."""

from __future__ import annotations

import copy
import ctypes
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from support import onnx_models

from tritonpy.ipc.dtypes import DATATYPES, from_numpy, numpy_dtype, to_config
from tritonpy.ipc.errors import (
    InternalError,
    InvalidArgumentError,
    UnavailableError,
    UnsupportedError,
)
from tritonpy.ipc.messages import Instance
from tritonpy.worker.backend import Array, Model
from tritonpy.worker.backends import onnx_settings
from tritonpy.worker.backends import onnxruntime as onnxruntime_backend
from tritonpy.worker.backends.onnx_providers import providers
from tritonpy.worker.backends.onnx_settings import model_path, session_settings
from tritonpy.worker.backends.onnxruntime import OnnxRuntimeBackend
from tritonpy.worker.device_tensor import DeviceTensor, as_array

Config = dict[str, Any]
AVAILABLE = ("CPUExecutionProvider",)
GPU_WHEEL = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def tensor(name: str, data_type: str, dims: list[int], **more: Any) -> Config:
    return {"name": name, "data_type": data_type, "dims": dims, **more}


def pair(data_type: str = "TYPE_FP32", dims: list[int] | None = None, **more: Any) -> Config:
    """The configuration of onnx_models.identity."""
    dims = [2] if dims is None else dims
    return {
        "name": "m",
        "backend": "onnxruntime",
        "input": [tensor("INPUT0", data_type, dims)],
        "output": [tensor("OUTPUT0", data_type, dims)],
        **more,
    }


def parameters(**values: str) -> Config:
    return {"parameters": {key: {"string_value": value} for key, value in values.items()}}


class Repository:
    """One model in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.version_directory = root / "m" / "1"

    def model(
        self,
        config: Config,
        graph: onnx.ModelProto | None = None,
        kind: str = "CPU",
        backend_config: Mapping[str, str] | None = None,
    ) -> Model:
        """The model that a worker would be started for."""
        if graph is not None:
            onnx_models.save(graph, self.version_directory)
        return Model(
            "m",
            1,
            str(self.version_directory.parent),
            str(self.version_directory),
            config,
            Instance("m_0_0", kind, 0, 1),
            backend_config or {},
        )

    def load(self, config: Config, graph: onnx.ModelProto | None = None) -> OnnxRuntimeBackend:
        backend = OnnxRuntimeBackend()
        backend.load(self.model(config, graph))
        return backend


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


# --- running --------------------------------------------------------------------------------------


def sample(datatype: str) -> Array:
    """Two rows of three elements that a wrong conversion would change."""
    if datatype == "BYTES":
        return np.array([["a", "", "größer"], ["日本", "a\0b", "x" * 300]], dtype=object)
    values = np.array([[0, 1, 2], [3, 100, 127]])
    return values.astype(numpy_dtype(datatype))


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_passes_through_unchanged(datatype: str, repository: Repository) -> None:
    graph = onnx_models.identity(datatype, [None, 3])
    backend = repository.load(pair(to_config(datatype), [3], max_batch_size=4), graph)
    array = sample(datatype)
    result = backend.run({"INPUT0": array}, ["OUTPUT0"])["OUTPUT0"]
    assert result.dtype == array.dtype
    assert result.tolist() == array.tolist()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_passes_through_without_elements(
    datatype: str, repository: Repository
) -> None:
    backend = repository.load(
        pair(to_config(datatype), [-1, 3]), onnx_models.identity(datatype, [None, 3])
    )
    array = np.empty((0, 3), numpy_dtype(datatype))
    result = backend.run({"INPUT0": array}, ["OUTPUT0"])["OUTPUT0"]
    assert result.shape == (0, 3)
    assert result.dtype == array.dtype


@pytest.mark.parametrize("datatype", ["FP32", "BF16", "BYTES"])
def test_read_only_and_strided_inputs_are_accepted(datatype: str, repository: Repository) -> None:
    graph = onnx_models.identity(datatype, [None, 3])
    backend = repository.load(pair(to_config(datatype), [3], max_batch_size=4), graph)
    strided = np.repeat(sample(datatype), 2, axis=1)[:, ::2]
    strided.flags.writeable = False
    result = backend.run({"INPUT0": strided}, ["OUTPUT0"])["OUTPUT0"]
    assert result.tolist() == sample(datatype).tolist()


def test_the_batch_dimension_may_have_any_size(repository: Repository) -> None:
    backend = repository.load(pair(max_batch_size=8), onnx_models.identity("FP32", ["batch", 2]))
    for size in (1, 5, 8):
        array = np.arange(2 * size, dtype=np.float32).reshape(size, 2)
        result = backend.run({"INPUT0": array}, ["OUTPUT0"])
        np.testing.assert_array_equal(result["OUTPUT0"], array)


def test_bytes_are_decoded_as_utf_8(repository: Repository) -> None:
    backend = repository.load(pair("TYPE_STRING"), onnx_models.identity("BYTES", [2]))
    array = np.array(["größer".encode(), b"b'x'"], dtype=object)
    result = backend.run({"INPUT0": array}, ["OUTPUT0"])["OUTPUT0"]
    assert result.tolist() == ["größer", "b'x'"]


def cafe() -> onnx.ModelProto:
    """y says of each x whether it is the latin-1 text café, which is no UTF-8."""
    node = onnx.helper.make_node("Equal", ["x", "k"], ["y"])
    key = onnx.TensorProto(name="k", data_type=onnx.TensorProto.STRING, dims=[1])
    key.string_data.append(b"caf\xe9")
    model = onnx_models.build(
        [node], [onnx_models.value("x", "BYTES", [None])], [onnx_models.value("y", "BOOL", [None])]
    )
    model.graph.initializer.append(key)
    model.opset_import[0].version = 19
    return model


CAFE = {
    "input": [tensor("x", "TYPE_STRING", [-1])],
    "output": [tensor("y", "TYPE_BOOL", [-1])],
}


def test_bytes_that_are_not_utf_8_reach_the_model_as_they_are(repository: Repository) -> None:
    backend = repository.load(CAFE, cafe())
    array = np.array([b"caf\xe9", "café".encode(), b"", b"caf\xe9x"], dtype=object)
    assert backend.run({"x": array}, ["y"])["y"].tolist() == [True, False, False, False]


@pytest.mark.parametrize("other", [b"a\0b", b"x" * 40_000_000])
def test_bytes_that_are_not_utf_8_are_refused_where_they_cannot_be_passed(
    other: bytes, repository: Repository
) -> None:
    backend = repository.load(pair("TYPE_STRING"), onnx_models.identity("BYTES", [2]))
    array = np.array([other, b"\xff"], dtype=object)
    with pytest.raises(InvalidArgumentError, match="'m', input 'INPUT0': an element is not UTF-8"):
        backend.run({"INPUT0": array}, ["OUTPUT0"])


@pytest.mark.parametrize("datatypes", [("BYTES", "BF16"), ("BYTES", "FP32", "BF16")])
@pytest.mark.parametrize("external", [False, True])
def test_strings_and_bf16_go_through_one_graph(
    datatypes: tuple[str, ...], external: bool, repository: Repository
) -> None:
    graph, config = onnx_models.side_by_side(datatypes)
    if external:
        onnx_models.save_with_external_data(graph, repository.version_directory)
    backend = repository.load(config, None if external else graph)
    arrays = {name: sample(name) for name in datatypes}

    results = backend.run(arrays, [f"{name}_OUT" for name in reversed(datatypes)])

    assert list(results) == [f"{name}_OUT" for name in reversed(datatypes)]
    for name, array in arrays.items():
        assert results[f"{name}_OUT"].dtype == array.dtype
        assert results[f"{name}_OUT"].tolist() == array.tolist()


def test_strings_and_bf16_inputs_go_together_without_a_bf16_output(repository: Repository) -> None:
    graph, config = onnx_models.side_by_side(("BYTES", "BF16"))
    del graph.graph.output[1]
    del config["output"][1]
    backend = repository.load(config, graph)
    results = backend.run({name: sample(name) for name in ("BYTES", "BF16")}, ["BYTES_OUT"])
    assert results["BYTES_OUT"].tolist() == sample("BYTES").tolist()


def test_a_companion_of_a_bf16_output_is_not_described(repository: Repository) -> None:
    graph, _ = onnx_models.side_by_side(("BYTES", "BF16"))
    described = OnnxRuntimeBackend().describe(repository.model({"name": "m"}, graph))
    assert [output["name"] for output in described["output"]] == ["BYTES_OUT", "BF16_OUT"]


def test_a_bf16_output_outlives_the_session(repository: Repository) -> None:
    backend = repository.load(pair("TYPE_BF16"), onnx_models.identity("BF16", [2]))
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    first = backend.run({"INPUT0": array}, ["OUTPUT0"])["OUTPUT0"]
    backend.run({"INPUT0": array[::-1]}, ["OUTPUT0"])
    backend.unload()
    assert first.tolist() == [1.5, -2]


def test_only_the_outputs_that_were_asked_for_are_computed(repository: Repository) -> None:
    graph = onnx_models.identity("FP32", [1], pairs=2)
    config = {
        "input": [tensor(f"INPUT{n}", "TYPE_FP32", [1]) for n in range(2)],
        "output": [tensor(f"OUTPUT{n}", "TYPE_FP32", [1]) for n in range(2)],
    }
    backend = repository.load(config, graph)
    inputs = {f"INPUT{n}": np.array([n], np.float32) for n in range(2)}
    assert backend.run(inputs, ["OUTPUT1"]) == {"OUTPUT1": inputs["INPUT1"]}
    assert list(backend.run(inputs, ["OUTPUT1", "OUTPUT0"])) == ["OUTPUT1", "OUTPUT0"]


def test_names_with_colons_and_slashes_work(repository: Repository) -> None:
    graph = onnx_models.build(
        [onnx.helper.make_node("Identity", ["scope/in:0"], ["scope/out:0"])],
        [onnx_models.value("scope/in:0", "FP32", [1])],
        [onnx_models.value("scope/out:0", "FP32", [1])],
    )
    config = {
        "input": [tensor("scope/in:0", "TYPE_FP32", [1])],
        "output": [tensor("scope/out:0", "TYPE_FP32", [1])],
    }
    array = np.ones(1, np.float32)
    assert repository.load(config, graph).run({"scope/in:0": array}, ["scope/out:0"])


def test_an_optional_input_overrides_its_initializer(repository: Repository) -> None:
    config = {
        "input": [tensor("x", "TYPE_FP32", [2]), tensor("b", "TYPE_FP32", [2], optional=True)],
        "output": [tensor("y", "TYPE_FP32", [2])],
    }
    backend = repository.load(config, onnx_models.optional_addend())
    one = np.ones(2, np.float32)
    assert backend.run({"x": one}, ["y"])["y"].tolist() == [11, 11]
    assert backend.run({"x": one, "b": one}, ["y"])["y"].tolist() == [2, 2]


def test_a_scalar_is_configured_and_answered_as_one_element(repository: Repository) -> None:
    config = {
        "input": [tensor("x", "TYPE_FP32", [1])],
        "output": [tensor("y", "TYPE_FP32", [1, 1])],
    }
    backend = repository.load(config, onnx_models.scalar_negation())
    result = backend.run({"x": np.array([3], np.float32)}, ["y"])["y"]
    assert result.tolist() == [[-3]]


def test_a_run_that_fails_is_reported_with_the_librarys_code(repository: Repository) -> None:
    backend = repository.load(pair(), onnx_models.identity("FP32", [2]))
    with pytest.raises(InternalError, match=r"^onnx runtime error 2: Got invalid dimensions"):
        backend.run({"INPUT0": np.ones(3, np.float32)}, ["OUTPUT0"])
    with pytest.raises(InternalError, match=r"^onnx runtime error 1: Required inputs"):
        backend.run({}, ["OUTPUT0"])


def test_a_failed_run_leaves_the_session_usable(repository: Repository) -> None:
    backend = repository.load(pair(), onnx_models.identity("FP32", [2]))
    with pytest.raises(InternalError):
        backend.run({"INPUT0": np.ones(3, np.float32)}, ["OUTPUT0"])
    assert backend.run({"INPUT0": np.ones(2, np.float32)}, ["OUTPUT0"])


def test_the_backend_is_pure_and_leaves_its_inputs_alone() -> None:
    assert OnnxRuntimeBackend.pure
    assert not OnnxRuntimeBackend.writes_inputs


def test_telemetry_is_off() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


# --- files ----------------------------------------------------------------------------------------


def test_a_folder_with_external_data_is_loaded(repository: Repository) -> None:
    onnx_models.save_with_external_data(onnx_models.weighted(64), repository.version_directory)
    config = {
        "input": [tensor("x", "TYPE_FP32", [64])],
        "output": [tensor("y", "TYPE_FP32", [64])],
    }
    result = repository.load(config).run({"x": np.zeros(64, np.float32)}, ["y"])["y"]
    assert result.tolist() == list(range(64))


def test_the_configured_filename_is_loaded(repository: Repository) -> None:
    onnx_models.save(onnx_models.identity("FP32", [2]), repository.version_directory, "other.onnx")
    assert repository.load(pair(default_model_filename="other.onnx"))


def test_a_missing_file_is_named(repository: Repository) -> None:
    with pytest.raises(
        UnavailableError, match=r"unable to find '.*/m/1/model\.onnx' for model instance 'm'"
    ):
        repository.load(pair())


def test_a_corrupt_file_is_refused(repository: Repository) -> None:
    repository.version_directory.mkdir(parents=True)
    (repository.version_directory / "model.onnx").write_bytes(b"no model at all" * 100)
    with pytest.raises(
        InternalError, match=r"unable to load model 'm': onnx runtime error 7: .*rotobuf"
    ):
        repository.load(pair())


def test_files_by_compute_capability_count_on_gpus_only(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_settings, "compute_capability", {0: "9.0"}.get)
    for name in ("model.onnx", "hopper.onnx"):
        onnx_models.save(onnx_models.identity("FP32", [2]), repository.version_directory, name)
    config = pair(cc_model_filenames={"9.0": "hopper.onnx"})
    assert model_path(repository.model(config)).endswith("/model.onnx")
    assert model_path(repository.model(config, kind="GPU")).endswith("/hopper.onnx")


# --- checks at load -------------------------------------------------------------------------------


def edited(edit: Callable[[Config], None], config: Config | None = None) -> Config:
    config = copy.deepcopy(config or pair(max_batch_size=4))
    edit(config)
    return config


BATCHED = onnx_models.identity("FP32", ["n", 2])
FIXED = onnx_models.identity("FP32", [2])
VARIABLE = onnx_models.identity("FP32", [None])
OPTIONAL = onnx_models.optional_addend()

ADDEND = {
    "input": [tensor("x", "TYPE_FP32", [2]), tensor("b", "TYPE_FP32", [2], optional=True)],
    "output": [tensor("y", "TYPE_FP32", [2])],
}


@pytest.mark.parametrize(
    ("graph", "config", "message"),
    [
        (
            BATCHED,
            edited(lambda c: c["input"].append(tensor("INPUT1", "TYPE_FP32", [2]))),
            "unable to load model 'm', configuration expects 2 inputs, model provides 1 (INPUT0)",
        ),
        (
            BATCHED,
            edited(lambda c: c["input"][0].update(name="x")),
            "unable to load model 'm', unexpected inference input 'x', allowed inputs are: INPUT0",
        ),
        (
            BATCHED,
            edited(lambda c: c["output"][0].update(name="y")),
            "unable to load model 'm', unexpected inference output 'y', allowed outputs are: "
            "OUTPUT0",
        ),
        (
            BATCHED,
            edited(lambda c: c["input"][0].update(data_type="TYPE_INT8")),
            "unable to load model 'm', configuration expects datatype TYPE_INT8 for input "
            "'INPUT0', model provides TYPE_FP32",
        ),
        (
            BATCHED,
            edited(lambda c: c["output"][0].update(data_type="TYPE_STRING")),
            "unable to load model 'm', configuration expects datatype TYPE_STRING for output "
            "'OUTPUT0', model provides TYPE_FP32",
        ),
        (
            BATCHED,
            edited(lambda c: c["input"][0].update(dims=[3])),
            "model 'm', tensor 'INPUT0': the model expects 2 dimensions (shape [-1,2]) but the "
            "model configuration specifies 2 dimensions (an initial batch dimension because "
            "max_batch_size > 0 followed by the explicit tensor shape, making complete shape "
            "[-1,3])",
        ),
        (
            BATCHED,
            edited(lambda c: c["input"][0].update(dims=[-1, 2])),
            "making complete shape [-1,-1,2]); leave the batch dimension out of 'dims': [2]",
        ),
        (
            FIXED,
            pair(dims=[3]),
            "model 'm', tensor 'INPUT0': the model expects 1 dimensions (shape [2]) but the model "
            "configuration specifies 1 dimensions (shape [3])",
        ),
        (
            FIXED,
            pair(max_batch_size=4),
            "model 'm', tensor 'INPUT0': for the model to support batching the shape should have "
            "at least 1 dimension and the first dimension must be -1; but shape expected by the "
            "model is [2]",
        ),
        (
            VARIABLE,
            pair(dims=[5]),
            "model 'm', tensor 'OUTPUT0': the model expects 1 dimensions (shape [-1]) but the "
            "model configuration specifies 1 dimensions (shape [5])",
        ),
        (
            onnx_models.scalar_negation(),
            {
                "input": [tensor("x", "TYPE_FP32", [2])],
                "output": [tensor("y", "TYPE_FP32", [1])],
            },
            "unable to load model 'm', scalar tensor 'x', should only provide 1 in the model "
            "configuration when the model doesn't support batching. Model configuration "
            "provided: [2].",
        ),
        (
            OPTIONAL,
            {**ADDEND, "input": ADDEND["input"][::-1], "max_batch_size": 2},
            "unable to load model 'm', optional input 'b' is not supported for models that "
            "support batching",
        ),
        (
            OPTIONAL,
            edited(lambda c: c["input"][1].update(allow_ragged_batch=True), ADDEND),
            "unable to load model 'm', configuration expects model provides input with shape "
            "[-1] for ragged input 'b', which is not supported for optional input",
        ),
        (
            BATCHED,
            edited(lambda c: c["input"][0].update(allow_ragged_batch=True)),
            "unable to load model 'm', configuration expects model provides input with shape "
            "[-1] for ragged input 'INPUT0', model provides [-1,2]",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_tritons_words(
    graph: onnx.ModelProto, config: Config, message: str, repository: Repository
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        repository.load(config, graph)
    assert message in raised.value.message


def test_a_sequence_output_is_refused(repository: Repository) -> None:
    config = {
        "input": [tensor("x", "TYPE_FP32", [-1])],
        "output": [tensor("y", "TYPE_FP32", [-1])],
    }
    with pytest.raises(
        UnsupportedError,
        match="Unsupported ONNX Type 'ONNX_TYPE_SEQUENCE' for I/O 'y', expected 'ONNX_TYPE_TENSOR'",
    ):
        repository.load(config, onnx_models.sequence_output())


def test_a_fixed_dimension_may_be_configured_where_the_graphs_input_varies(
    repository: Repository,
) -> None:
    config = pair(dims=[-1])
    config["input"][0]["dims"] = [5]
    assert repository.load(config, VARIABLE)


def test_reshaped_tensors_are_compared_by_their_graph_shape(repository: Repository) -> None:
    config = pair(dims=[2, 1], max_batch_size=4)
    for side in ("input", "output"):
        config[side][0]["reshape"] = {"shape": [2]}
    assert repository.load(config, BATCHED)


def test_part_of_the_outputs_may_be_left_out(repository: Repository) -> None:
    graph = onnx_models.identity("FP32", [1], pairs=2)
    config = {
        "input": [tensor(f"INPUT{n}", "TYPE_FP32", [1]) for n in range(2)],
        "output": [tensor("OUTPUT1", "TYPE_FP32", [1])],
    }
    assert repository.load(config, graph)


def controls(**control: Any) -> Config:
    """A sequence model: INPUT0 comes from the client, INPUT1 from the scheduler."""
    return {
        "max_batch_size": 4,
        "input": [tensor("INPUT0", "TYPE_FP32", [1])],
        "output": [tensor("OUTPUT0", "TYPE_FP32", [1])],
        "sequence_batching": {"control_input": [{"name": "INPUT1", "control": [control]}]},
    }


def test_a_sequence_control_counts_as_an_input(repository: Repository) -> None:
    graph = onnx_models.identity("FP32", [None, 1], pairs=2)
    assert repository.load(controls(fp32_false_true=[0, 1]), graph)


@pytest.mark.parametrize(
    ("control", "dims", "message"),
    [
        (
            {"int32_false_true": [0, 1]},
            [None, 1],
            "sequence control 'INPUT1', the model expects data-type TYPE_FP32 but the model "
            "configuration specifies data-type TYPE_INT32",
        ),
        (
            {"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_UINT64"},
            [None, 1],
            "configuration specifies data-type TYPE_UINT64",
        ),
        (
            {"fp32_false_true": [0, 1]},
            [None, 2],
            "sequence control 'INPUT1' in model has dims [2] but dims [1] is expected",
        ),
    ],
)
def test_a_sequence_control_that_does_not_fit_is_refused(
    control: Config, dims: list[Any], message: str, repository: Repository
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        repository.load(controls(**control), onnx_models.identity("FP32", dims, pairs=2))
    assert message in raised.value.message


def test_a_sequence_control_that_the_graph_lacks_is_refused(repository: Repository) -> None:
    with pytest.raises(InternalError, match="sequence control 'INPUT1', but model does not"):
        repository.load(controls(fp32_false_true=[0, 1]), onnx_models.identity("FP32", [None, 1]))


STATE = {"input_name": "s", "output_name": "t", "data_type": "TYPE_FP32", "dims": [1]}


def stateful(**changes: Any) -> Config:
    """A configuration of onnx_models.running_sum."""
    return {
        "name": "m",
        "max_batch_size": 4,
        "input": [tensor("x", "TYPE_FP32", [1])],
        "output": [tensor("y", "TYPE_FP32", [1])],
        "sequence_batching": {"state": [{**STATE, **changes}]},
    }


def test_a_state_counts_as_an_input_and_an_output(repository: Repository) -> None:
    assert repository.load(stateful(), onnx_models.running_sum())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_name": "z"}, "unexpected inference input 'z', allowed inputs are: s, x"),
        ({"output_name": "z"}, "unexpected inference output 'z', allowed outputs are: t, y"),
        ({"data_type": "TYPE_INT32"}, "expects datatype TYPE_INT32 for input state 's', model"),
        ({"dims": [2]}, "tensor 's': the model expects 2 dimensions"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    changes: Config, message: str, repository: Repository
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        repository.load(stateful(**changes), onnx_models.running_sum())
    assert message in raised.value.message


def test_controls_and_states_are_not_described_as_the_clients(repository: Repository) -> None:
    config = {**stateful(), "input": [], "output": []}

    found = described(repository.model(config, onnx_models.running_sum()))

    assert [each["name"] for each in found["input"]] == ["x"]
    assert [each["name"] for each in found["output"]] == ["y"]


# --- completing the configuration -----------------------------------------------------------------


def described(model: Model) -> Config:
    return OnnxRuntimeBackend().describe(model)


def test_a_complete_configuration_is_not_touched(repository: Repository) -> None:
    config = pair(max_batch_size=0)
    assert described(repository.model(config)) is config  # not even the file is opened


def test_a_batching_graph_is_described_without_its_batch_dimension(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    graph = onnx_models.identity("BYTES", ["batch", "length", 3])
    with caplog.at_level(logging.WARNING):
        config = described(repository.model({"name": "m", "input": []}, graph))
    assert config == {
        "name": "m",
        "max_batch_size": 4,
        "dynamic_batching": {},
        "input": [tensor("INPUT0", "TYPE_STRING", [-1, 3])],
        "output": [tensor("OUTPUT0", "TYPE_STRING", [-1, 3])],
    }
    assert "autofilled max_batch_size to 4 for model 'm'" in caplog.text


@pytest.mark.parametrize(
    ("default", "size", "scheduler"), [("16", 16, True), ("1", 1, False), ("0", 0, False)]
)
def test_the_default_batch_size_comes_from_the_command_line(
    default: str, size: int, scheduler: bool, repository: Repository
) -> None:
    graph = onnx_models.identity("FP32", ["batch", 3])
    model = repository.model({}, graph, backend_config={"default-max-batch-size": default})
    config = described(model)
    assert config["max_batch_size"] == size
    assert ("dynamic_batching" in config) is scheduler
    assert config["input"][0]["dims"] == ([3] if size else [-1, 3])


@pytest.mark.parametrize("present", ["dynamic_batching", "sequence_batching"])
def test_a_scheduler_and_a_batch_size_of_the_author_are_kept(
    present: str, repository: Repository
) -> None:
    block = {"max_queue_delay_microseconds": 5}
    graph = onnx_models.identity("FP32", ["batch", 3])
    config = described(repository.model({"max_batch_size": 32, present: block}, graph))
    assert config["max_batch_size"] == 32
    assert config[present] == block
    assert len({"dynamic_batching", "sequence_batching"} & config.keys()) == 1


def test_a_graph_without_batching_is_described_with_its_whole_shape(
    repository: Repository,
) -> None:
    config = described(repository.model({}, onnx_models.identity("INT8", [1, None])))
    assert config.get("max_batch_size", 0) == 0
    assert config["input"] == [tensor("INPUT0", "TYPE_INT8", [1, -1])]


def test_a_batch_size_for_a_graph_without_batching_is_refused(repository: Repository) -> None:
    with pytest.raises(
        InvalidArgumentError,
        match="autofill failed for model 'm': model does not support batching while non-zero "
        "max_batch_size is specified",
    ):
        described(repository.model({"max_batch_size": 2}, FIXED))


def test_only_the_missing_side_is_filled(repository: Repository) -> None:
    given = [tensor("INPUT0", "TYPE_FP32", [2], format="FORMAT_NONE")]
    config = described(repository.model({"input": given}, BATCHED))
    assert config["input"] == given
    assert config["output"] == [tensor("OUTPUT0", "TYPE_FP32", [2])]


def test_a_scalar_is_described_as_one_element(repository: Repository) -> None:
    config = described(repository.model({}, onnx_models.scalar_negation()))
    assert config["input"] == [tensor("x", "TYPE_FP32", [1])]


def test_a_vector_of_the_batch_is_described_as_a_reshaped_element(repository: Repository) -> None:
    config = described(repository.model({}, VARIABLE))
    assert config["input"] == [tensor("INPUT0", "TYPE_FP32", [1], reshape={"shape": []})]


@pytest.mark.parametrize("graph", [BATCHED, VARIABLE, FIXED, onnx_models.scalar_negation()])
def test_a_described_model_loads(graph: onnx.ModelProto, repository: Repository) -> None:
    backend = OnnxRuntimeBackend()
    config = backend.describe(repository.model({}, graph))
    backend.load(repository.model(config))


# --- settings -------------------------------------------------------------------------------------


def settings(repository: Repository, config: Config, **more: Any) -> Any:
    model = repository.model({**pair(), **config}, FIXED, **more)
    return session_settings(model, AVAILABLE)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (-1, "ORT_ENABLE_BASIC"),
        (0, "ORT_ENABLE_ALL"),
        (1, "ORT_ENABLE_EXTENDED"),
        (2, "ORT_DISABLE_ALL"),
    ],
)
def test_the_graph_level_is_translated(level: int, expected: str, repository: Repository) -> None:
    config = {"optimization": {"graph": {"level": level}}}
    assert settings(repository, config).graph_level == expected
    assert repository.load({**pair(), **config})


def test_an_instance_uses_its_share_of_the_cores(repository: Repository) -> None:
    found = settings(repository, {})
    assert (found.intra_op_threads, found.inter_op_threads, found.parallel) == (1, 0, False)


def test_the_models_thread_counts_go_before_the_command_lines(repository: Repository) -> None:
    own = parameters(intra_op_thread_count="3", inter_op_thread_count="0", execution_mode="1")
    server = {"intra_op_thread_count": "5", "inter_op_thread_count": "6"}
    found = settings(repository, own, backend_config=server)
    assert (found.intra_op_threads, found.inter_op_threads, found.parallel) == (3, 6, True)


def test_with_a_global_pool_the_command_line_decides(repository: Repository) -> None:
    server = {"intra_op_thread_count": "5", "enable-global-threadpool": "1"}
    found = settings(repository, parameters(intra_op_thread_count="3"), backend_config=server)
    assert found.intra_op_threads == 5


def test_every_parameter_reaches_the_session(repository: Repository) -> None:
    config = parameters(
        execution_mode="1",
        intra_op_thread_count="1",
        inter_op_thread_count="1",
        enable_mem_arena="1",
        enable_mem_pattern="false",
    )
    config["parameters"]["session.use_device_allocator_for_initializers"] = {"string_value": "1"}
    config["parameters"]["memory.enable_memory_arena_shrinkage"] = {"string_value": "cpu:0"}
    backend = repository.load({**pair(), **config}, FIXED)
    assert backend.run({"INPUT0": np.ones(2, np.float32)}, ["OUTPUT0"])
    found = settings(repository, config)
    assert (found.mem_arena, found.mem_pattern) == (True, False)
    assert found.session_entries == (("session.use_device_allocator_for_initializers", "1"),)
    assert found.run_entries == (("memory.enable_memory_arena_shrinkage", "cpu:0"),)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        (
            "execution_mode",
            "2",
            "Invalid configuration value provided. Expected values for execution_mode are 0 or 1",
        ),
        ("execution_mode", "x", "parameter 'execution_mode' is 'x', expected an integer"),
        ("intra_op_thread_count", "many", "'intra_op_thread_count' is 'many', expected an integer"),
        ("enable_mem_arena", "yes", "'enable_mem_arena' is 'yes', expected 1, 0, true or false"),
        (
            "memory.enable_memory_arena_shrinkage",
            "all",
            "'memory.enable_memory_arena_shrinkage' is 'all', expected devices such as cpu:0",
        ),
    ],
)
def test_a_parameter_with_a_wrong_value_is_named(
    key: str, text: str, message: str, repository: Repository
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        settings(repository, {"parameters": {key: {"string_value": text}}})
    assert raised.value.message.startswith("model 'm': ")
    assert message in raised.value.message


def test_a_library_of_operators_is_found_beside_the_model(repository: Repository) -> None:
    onnx_models.save(FIXED, repository.version_directory)
    library = repository.version_directory / "ops.so"
    library.write_bytes(b"")
    config = {"model_operations": {"op_library_filename": ["ops.so", "/opt/other.so"]}}
    assert settings(repository, config).op_libraries == (str(library), "/opt/other.so")


def test_a_library_of_operators_that_cannot_be_loaded_is_named(repository: Repository) -> None:
    config = pair(model_operations={"op_library_filename": ["/nowhere/ops.so"]})
    with pytest.raises(InternalError, match=r"unable to load model 'm': .*/nowhere/ops\.so"):
        repository.load(config, FIXED)


# --- execution providers --------------------------------------------------------------------------


def accelerated(kind: str, name: str, **values: str) -> Config:
    accelerator = {f"{kind}_execution_accelerator": [{"name": name, "parameters": values}]}
    return pair(optimization={"execution_accelerators": accelerator})


def test_a_cpu_instance_runs_on_the_cpu_provider_alone(repository: Repository) -> None:
    assert providers(repository.model(pair()), GPU_WHEEL) == (("CPUExecutionProvider", ()),)


def test_a_gpu_instance_runs_on_cuda_with_the_older_parameters(repository: Repository) -> None:
    config = {
        **pair(),
        **parameters(
            cudnn_conv_algo_search="1",
            gpu_mem_limit="1024",
            arena_extend_strategy="1",
            do_copy_in_default_stream="true",
        ),
    }
    found = providers(repository.model(config, kind="GPU"), GPU_WHEEL)
    assert [name for name, _ in found] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert dict(found[0][1]) == {
        "cudnn_conv_algo_search": "HEURISTIC",
        "gpu_mem_limit": "1024",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
        "device_id": "0",
    }


def test_the_cuda_accelerator_passes_its_options_on_but_not_the_device(
    repository: Repository,
) -> None:
    config = accelerated(
        "gpu", "cuda", cudnn_conv_use_max_workspace="0", device_id="7", use_tf32=""
    )
    found = providers(repository.model(config, kind="GPU"), GPU_WHEEL)
    assert dict(found[0][1]) == {"cudnn_conv_use_max_workspace": "0", "device_id": "0"}


def test_the_tensorrt_accelerator_comes_before_cuda(repository: Repository) -> None:
    config = accelerated(
        "gpu",
        "tensorrt",
        precision_mode="FP16",
        max_workspace_size_bytes="1073741824",
        trt_engine_cache_enable="True",
        trt_engine_cache_path="/cache",
    )
    found = providers(repository.model(config, kind="GPU"), GPU_WHEEL)
    assert [name for name, _ in found] == list(GPU_WHEEL)
    assert dict(found[0][1]) == {
        "trt_fp16_enable": "1",
        "trt_max_workspace_size": "1073741824",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/cache",
        "device_id": "0",
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (accelerated("gpu", "opencl"), "unknown Execution Accelerator 'opencl' is requested"),
        (accelerated("cpu", "tensorrt"), "unknown Execution Accelerator 'tensorrt' is requested"),
        (
            accelerated("gpu", "tensorrt", trt_speed="11"),
            "unknown parameter 'trt_speed' is provided for TensorRT Execution Accelerator",
        ),
        (
            accelerated("gpu", "tensorrt", precision_mode="FP8"),
            "unsupported precision mode 'FP8' is requested",
        ),
        (
            accelerated("gpu", "tensorrt", trt_dla_core="x"),
            "parameter 'trt_dla_core' of the tensorrt Execution Accelerator is 'x', expected an "
            "integer",
        ),
        (
            accelerated("gpu", "cuda", do_copy_in_default_stream="perhaps"),
            "parameter 'do_copy_in_default_stream' of the cuda Execution Accelerator is 'perhaps'",
        ),
        (
            {**pair(), **parameters(cudnn_conv_algo_search="3")},
            "unsupported cudnn_conv_algo_search value '3' is requested",
        ),
    ],
)
def test_a_wrong_accelerator_is_refused(
    config: Config, message: str, repository: Repository
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        providers(repository.model(config, kind="GPU"), GPU_WHEEL)
    assert message in raised.value.message


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_accelerator_on_a_cpu_instance_is_refused(name: str, repository: Repository) -> None:
    with pytest.raises(
        InvalidArgumentError, match=f"'{name}' needs an instance group of KIND_GPU, but instance"
    ):
        repository.load(accelerated("gpu", name), FIXED)


def test_a_gpu_instance_without_the_gpu_wheel_is_refused(repository: Repository) -> None:
    with pytest.raises(
        UnsupportedError, match=r"needs CUDAExecutionProvider.*tritonpy-supervisor\[gpu\]"
    ):
        providers(repository.model(pair(), kind="GPU"), AVAILABLE)


def test_openvino_where_it_is_absent_is_refused(repository: Repository) -> None:
    with pytest.raises(UnsupportedError, match="'m' needs OpenVINOExecutionProvider"):
        repository.load(accelerated("cpu", "openvino"), FIXED)


class SilentFallback:
    """A session as ONNX Runtime makes it when the CUDA provider could not be loaded."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_a_silent_fallback_to_the_cpu_fails_the_load(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(GPU_WHEEL))
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: None)
    monkeypatch.setattr("onnxruntime.InferenceSession", SilentFallback)
    with pytest.raises(
        UnsupportedError,
        match="unable to load model 'm': instance 'm_0_0' needs CUDAExecutionProvider, but ONNX "
        "Runtime could only use CPUExecutionProvider",
    ):
        OnnxRuntimeBackend().load(repository.model(pair(), FIXED, kind="GPU"))


# --- tensors on a GPU -----------------------------------------------------------------------------


@pytest.fixture
def bound(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> OnnxRuntimeBackend:
    """y = x + b, loaded as if the memory of a GPU were the host's: bindings are the same."""
    monkeypatch.setattr(onnxruntime_backend, "_DEVICE", "cpu")
    config: Config = {
        "name": "m",
        "backend": "onnxruntime",
        "input": [
            tensor("x", "TYPE_FP32", [2]),
            tensor("b", "TYPE_FP32", [2], optional=True),
        ],
        "output": [tensor("y", "TYPE_FP32", [2])],
    }
    backend = OnnxRuntimeBackend()
    backend.load(repository.model(config, onnx_models.optional_addend()))
    assert not backend.takes_device_tensors
    monkeypatch.setattr(backend, "_run", backend._run_where_they_lie)
    assert backend.takes_device_tensors
    return backend


def on_device(array: Array) -> Array:
    datatype = from_numpy(array.dtype)
    return as_array(DeviceTensor(array.ctypes.data, 0, datatype, array.shape, array))


def test_inputs_on_the_gpu_are_bound_where_they_are(bound: OnnxRuntimeBackend) -> None:
    x = np.array([1, 2], np.float32)
    inputs = {"x": on_device(x), "b": np.array([5, 6], np.float32)}
    assert bound.run(inputs, ["y"])["y"].tolist() == [6, 8]
    x += 1
    assert bound.run(inputs, ["y"])["y"].tolist() == [7, 9]


def test_outputs_that_are_wanted_on_the_gpu_stay_there(bound: OnnxRuntimeBackend) -> None:
    bound.on_device = ["y"]
    left: object = bound.run({"x": np.array([1, 2], np.float32)}, ["y"])["y"]
    assert isinstance(left, DeviceTensor)
    assert (left.shape, left.datatype) == ((2,), "FP32")
    found = np.ctypeslib.as_array((ctypes.c_float * 2).from_address(left.address))
    assert found.tolist() == [11, 12]


def test_without_tensors_on_the_gpu_nothing_is_bound(bound: OnnxRuntimeBackend) -> None:
    assert isinstance(bound.run({"x": np.zeros(2, np.float32)}, ["y"])["y"], np.ndarray)
