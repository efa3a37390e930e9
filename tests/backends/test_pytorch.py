"""The PyTorch backend, driven directly: every file is made by PyTorch itself at test time."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritonpy.ipc.errors import InternalError, InvalidArgumentError, NotFoundError, StatusError
from tritonpy.ipc.messages import Instance
from tritonpy.worker.backend import Array, Model

pytest.importorskip("torch", reason="PyTorch is not installed")

import torch

from tritonpy.worker.backends import pytorch, pytorch_settings

# What has no public name or no types is taken as a value.
native: Any = import_module("torch._C")
jit: Any = import_module("torch.jit")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(scope="module", autouse=True)
def _caches_of_the_compiler_are_temporary(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture(autouse=True)
def _process_wide_settings_are_restored() -> Iterator[None]:
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn.enabled
    optimize = native._get_graph_executor_optimize()
    executor = native._jit_set_profiling_executor(True)
    profiling = native._jit_set_profiling_mode(True)
    fuser = native._jit_texpr_fuser_enabled()
    native._jit_set_profiling_executor(executor)
    native._jit_set_profiling_mode(profiling)
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.enabled = cudnn
    native._set_graph_executor_optimize(optimize)
    native._jit_set_profiling_executor(executor)
    native._jit_set_profiling_mode(profiling)
    native._jit_set_texpr_fuser_enabled(fuser)


class AddSub(torch.nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left + right, left - right


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.linear(x)
        return result


class Nested(torch.nn.Module):
    def forward(
        self, x: torch.Tensor, pair: tuple[torch.Tensor, torch.Tensor], *, scale: torch.Tensor
    ) -> dict[str, Any]:
        return {"product": x * scale, "sums": (pair[0] + x, pair[1] + x)}


#: Three tensors, not one three times: the exporter takes the same object for the same argument.
NESTED_ARGUMENTS = (torch.zeros(2, 4), (torch.zeros(2, 4), torch.zeros(2, 4)))


def tensor(name: str, data_type: str = "TYPE_FP32", dims: tuple[int, ...] = (4,)) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": list(dims)}


def make_model(
    folder: Path,
    inputs: list[Any],
    outputs: list[Any],
    parameters: dict[str, str] | None = None,
    kind: str = "CPU",
    **config: Any,
) -> Model:
    """Tensors may be given by name alone; they are FP32 with batches of rows of four then."""
    return Model(
        name="m",
        version=1,
        directory=str(folder.parent),
        version_directory=str(folder),
        config={
            "name": "m",
            "backend": "pytorch",
            "max_batch_size": 8,
            "input": [tensor(each) if isinstance(each, str) else each for each in inputs],
            "output": [tensor(each) if isinstance(each, str) else each for each in outputs],
            "parameters": {
                key: {"string_value": value} for key, value in (parameters or {}).items()
            },
            **config,
        },
        instance=Instance(name="m_0_0", kind=kind, device=0, threads=1),
        backend_config={},
    )


def load(model: Model) -> pytorch.PyTorchBackend:
    backend = pytorch.PyTorchBackend()
    backend.load(model)
    return backend


def save_script(module: torch.nn.Module, folder: Path, name: str = "model.pt") -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
        jit.save(jit.script(module), str(folder / name))


def save_export(folder: Path, module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
    torch.export.save(torch.export.export(module, args, kwargs), folder / "model.pt2")


def save_nested_export(folder: Path) -> None:
    save_export(folder, Nested(), *NESTED_ARGUMENTS, scale=torch.ones(1))


def failure(model: Model) -> str:
    """The message with which the model's load fails."""
    with pytest.raises(StatusError) as caught:
        load(model)
    return caught.value.message


# --- TorchScript ----------------------------------------------------------------------------------


def test_torchscript_names_with_indices_stand_for_arguments_and_results(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    backend = load(make_model(tmp_path, ["input__1", "input__0"], ["output__1", "output__0"]))
    result = backend.run({"input__0": 3 * X, "input__1": X.copy()}, ["output__0", "output__1"])
    np.testing.assert_array_equal(result["output__0"], 4 * X)
    np.testing.assert_array_equal(result["output__1"], 2 * X)


def test_torchscript_names_of_arguments_go_before_the_configured_order(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    backend = load(make_model(tmp_path, ["right", "left"], ["sum", "difference"]))
    result = backend.run({"left": 3 * X, "right": X.copy()}, ["difference"])
    assert list(result) == ["difference"]
    np.testing.assert_array_equal(result["difference"], 2 * X)


def test_torchscript_other_names_follow_the_configured_order_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_script(AddSub(), tmp_path)
    with caplog.at_level(logging.WARNING):
        backend = load(make_model(tmp_path, ["a", "b"], ["output__0", "output__1"]))
    assert "input 'a' of model 'm'" in caplog.text
    assert "left, right" in caplog.text
    assert "output" not in caplog.text.replace("output__", "")
    result = backend.run({"b": X.copy(), "a": 3 * X}, ["output__1"])
    np.testing.assert_array_equal(result["output__1"], 2 * X)


def test_torchscript_with_one_dict_argument_gets_the_inputs_as_its_keys(tmp_path: Path) -> None:
    class Sum(torch.nn.Module):
        def forward(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
            return tensors["a"] + tensors["b"]

    save_script(Sum(), tmp_path)
    result = load(make_model(tmp_path, ["b", "a"], ["sum"])).run(
        {"a": 3 * X, "b": X.copy()}, ["sum"]
    )
    np.testing.assert_array_equal(result["sum"], 4 * X)


def test_torchscript_optional_argument_may_stay_away(tmp_path: Path) -> None:
    class MaybeAdd(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
            return x if y is None else x + y

    save_script(MaybeAdd(), tmp_path)
    backend = load(make_model(tmp_path, ["x", {**tensor("y"), "optional": True}], ["sum"]))
    np.testing.assert_array_equal(backend.run({"x": X.copy()}, ["sum"])["sum"], X)
    np.testing.assert_array_equal(
        backend.run({"x": X.copy(), "y": X.copy()}, ["sum"])["sum"], 2 * X
    )


def test_torchscript_loads_without_a_warning(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load(make_model(tmp_path, ["left", "right"], ["sum", "difference"]))
    assert [str(each.message) for each in seen] == []


def test_strings_are_lists_of_text_in_the_model_and_bytes_outside(tmp_path: Path) -> None:
    class Shout(torch.nn.Module):
        def forward(self, words: list[str]) -> list[str]:
            return [word + "!" for word in words]

    save_script(Shout(), tmp_path)
    model = make_model(
        tmp_path,
        [tensor("words", "TYPE_STRING", (-1,))],
        [tensor("loud", "TYPE_STRING", (-1,))],
        max_batch_size=0,
    )
    backend = load(model)
    words = np.array([b"a", "ü".encode()], dtype=object)
    assert backend.run({"words": words}, ["loud"])["loud"].tolist() == [b"a!", "ü!".encode()]
    with pytest.raises(InvalidArgumentError, match="element 1 of input 'words' of model 'm'"):
        backend.run({"words": np.array([b"a", b"\xff"], dtype=object)}, ["loud"])


@pytest.mark.parametrize(
    ("data_type", "dtype"),
    [
        ("TYPE_BOOL", np.bool_),
        ("TYPE_UINT8", np.uint8),
        ("TYPE_INT8", np.int8),
        ("TYPE_INT16", np.int16),
        ("TYPE_INT32", np.int32),
        ("TYPE_INT64", np.int64),
        ("TYPE_FP16", np.float16),
        ("TYPE_FP32", np.float32),
        ("TYPE_FP64", np.float64),
        ("TYPE_BF16", ml_dtypes.bfloat16),
    ],
)
def test_each_datatype_comes_back_as_it_went_in(tmp_path: Path, data_type: str, dtype: Any) -> None:
    save_script(torch.nn.Identity(), tmp_path)
    backend = load(make_model(tmp_path, [tensor("x", data_type)], [tensor("y", data_type)]))
    sent: Array = np.array([[0, 1, 1, 0]], dtype=dtype)
    got = backend.run({"x": sent}, ["y"])["y"]
    assert got.dtype == sent.dtype
    np.testing.assert_array_equal(got, sent)


def test_a_read_only_input_is_copied_before_the_model_writes_to_it(tmp_path: Path) -> None:
    class Halve(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(0.5)

    save_script(Halve(), tmp_path)
    backend = load(make_model(tmp_path, ["x"], ["y"]))
    sent = X.copy()
    sent.flags.writeable = False
    np.testing.assert_array_equal(backend.run({"x": sent}, ["y"])["y"], X / 2)
    np.testing.assert_array_equal(sent, X)


def test_a_writable_input_reaches_the_model_without_a_copy(tmp_path: Path) -> None:
    save_script(torch.nn.Identity(), tmp_path)
    sent = X.copy()
    got = load(make_model(tmp_path, ["x"], ["y"])).run({"x": sent}, ["y"])["y"]
    assert np.shares_memory(got, sent)


def test_the_digits_example_reads_its_held_back_digits() -> None:
    image_module = pytest.importorskip("PIL.Image")
    folder = EXAMPLES / "pytorch_repository" / "digits" / "1"
    inputs = [tensor("input__0", dims=(1, 8, 8))]
    backend = load(make_model(folder, inputs, [tensor("output__0", dims=(10,))], max_batch_size=64))
    pictures = [
        np.asarray(image_module.open(EXAMPLES / f"digits/images/{d}.png")) for d in range(10)
    ]
    images = np.stack(pictures)[:, None].astype(np.float32) * (16 / 255)
    scores = backend.run({"input__0": images}, ["output__0"])["output__0"]
    assert scores.argmax(1).tolist() == list(range(10))


# --- what does not fit ----------------------------------------------------------------------------


def test_a_different_number_of_inputs_is_refused_with_both_numbers(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    assert failure(make_model(tmp_path, ["left"], ["sum"])) == (
        "unable to load model 'm', configuration expects 1 inputs, model provides 2"
    )


def test_an_index_that_no_argument_has_is_refused(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    message = failure(make_model(tmp_path, ["input__0", "input__2"], ["sum"]))
    assert "input 'input__2' of model 'm' stands for argument 2" in message


def test_two_inputs_for_one_argument_are_refused(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    message = failure(make_model(tmp_path, ["a__0", "b__0"], ["sum"]))
    assert "inputs 'a__0' and 'b__0' of model 'm' both stand for argument 0" in message


@pytest.mark.parametrize("data_type", ["TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64"])
def test_unsigned_datatypes_above_eight_bits_are_refused(tmp_path: Path, data_type: str) -> None:
    save_script(torch.nn.Identity(), tmp_path)
    message = failure(make_model(tmp_path, [tensor("x", data_type)], ["y"]))
    assert message == f"unsupported datatype {data_type} for input 'x' for model 'm'"


def test_strings_with_more_than_one_dimension_are_refused(tmp_path: Path) -> None:
    save_script(torch.nn.Identity(), tmp_path)
    message = failure(make_model(tmp_path, [tensor("x", "TYPE_STRING", (1,))], ["y"]))
    assert message == (
        "Triton only supports 1 dimensional List of String as input for 'x' for model 'm'"
    )


def test_a_string_input_for_a_tensor_argument_is_refused(tmp_path: Path) -> None:
    save_script(torch.nn.Identity(), tmp_path)
    inputs = [tensor("x", "TYPE_STRING", (-1,))]
    assert "datatype BYTES" in failure(make_model(tmp_path, inputs, ["y"], max_batch_size=0))


def test_an_argument_that_is_neither_tensor_nor_strings_is_named(tmp_path: Path) -> None:
    class Power(torch.nn.Module):
        def forward(self, x: torch.Tensor, exponent: int) -> torch.Tensor:
            return x**exponent

    save_script(Power(), tmp_path)
    message = failure(make_model(tmp_path, ["x", "exponent"], ["y"]))
    assert "An input of type 'int' was detected in the model" in message
    assert "'exponent'" in message


def test_states_of_sequences_need_indices(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    state = {"input_name": "right", "output_name": "d", "data_type": "TYPE_FP32", "dims": [4]}
    message = failure(make_model(tmp_path, ["left"], ["s"], sequence_batching={"state": [state]}))
    assert "not all inputs and outputs follow the <name>__<index> naming convention" in message


def test_a_configuration_without_outputs_is_refused(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    assert "must contain at least one output" in failure(make_model(tmp_path, ["left"], []))


def test_a_missing_file_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"version 1 has no file model\.pt or model\.pt2 in /"):
        load(make_model(tmp_path, ["x"], ["y"]))


@pytest.mark.parametrize("name", ["model.pt", "model.pt2"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str, cut: bool) -> None:
    if cut:
        save_script(AddSub(), tmp_path, name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    else:
        (tmp_path / name).write_bytes(b"no model")
    message = failure(make_model(tmp_path, ["left", "right"], ["sum"], default_model_filename=name))
    assert (
        f"unable to load model 'm': {name} of version 1 is not a file that PyTorch wrote" in message
    )
    assert "\n" not in message


def test_a_file_damaged_inside_is_refused_in_one_line(tmp_path: Path) -> None:
    from zipfile import ZipFile

    with ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/constants.pkl", b"nonsense")
    message = failure(make_model(tmp_path, ["x"], ["y"]))
    assert "unable to load model 'm': model.pt of version 1 is damaged" in message
    assert "\n" not in message


def test_a_state_dict_in_place_of_a_program_is_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.save(Scaled().state_dict(), tmp_path / "model.pt")
    message = failure(make_model(tmp_path, ["x"], ["y"]))
    assert "holds pickled weights" in message
    assert 'runtime: "model.py"' in message


def test_a_gpu_instance_without_a_gpu_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_script(AddSub(), tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = failure(make_model(tmp_path, ["left", "right"], ["sum"], kind="GPU"))
    assert "instance 'm_0_0' is to run on a GPU" in message
    assert "KIND_CPU" in message


def test_kind_model_leaves_the_placement_to_the_file(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    backend = load(make_model(tmp_path, ["left", "right"], ["sum"], kind="MODEL"))
    np.testing.assert_array_equal(
        backend.run({"left": X.copy(), "right": X.copy()}, ["sum"])["sum"], 2 * X
    )


# --- executions that fail -------------------------------------------------------------------------


def test_a_failing_execution_says_what_torch_said_without_a_traceback(tmp_path: Path) -> None:
    save_script(Scaled(), tmp_path)
    backend = load(make_model(tmp_path, ["x"], [tensor("y", dims=(3,))]))
    with pytest.raises(InternalError) as caught:
        backend.run({"x": np.zeros((2, 5), dtype=np.float32)}, ["y"])
    assert caught.value.message.startswith("PyTorch execute failure: ")
    assert "shapes cannot be multiplied (2x5 and 4x3)" in caught.value.message
    assert "Traceback" not in caught.value.message
    assert backend.run({"x": X.copy()}, ["y"])["y"].shape == (2, 3)


def test_an_output_of_another_datatype_is_an_error_that_names_both(tmp_path: Path) -> None:
    save_script(torch.nn.Identity(), tmp_path)
    backend = load(make_model(tmp_path, ["x"], [tensor("y", "TYPE_INT32")]))
    with pytest.raises(InvalidArgumentError) as caught:
        backend.run({"x": X.copy()}, ["y"])
    assert caught.value.message == (
        "configuration expects datatype TYPE_INT32 for output 'y', model provides TYPE_FP32"
    )


def test_a_scalar_output_is_an_error(tmp_path: Path) -> None:
    class Total(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum()

    save_script(Total(), tmp_path)
    backend = load(make_model(tmp_path, ["x"], ["total"]))
    with pytest.raises(InvalidArgumentError, match=r"^output 'total' is a scalar which is not"):
        backend.run({"x": X.copy()}, ["total"])


def test_an_output_that_the_model_does_not_have_is_an_error(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    backend = load(make_model(tmp_path, ["left", "right"], ["a__0", "b__2"]))
    with pytest.raises(InvalidArgumentError, match=r"The output b__2 .* This model has 2 outputs"):
        backend.run({"left": X.copy(), "right": X.copy()}, ["b__2"])


def test_a_list_of_tensors_as_output_is_an_error(tmp_path: Path) -> None:
    class Split(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x, x]

    save_script(Split(), tmp_path)
    backend = load(make_model(tmp_path, ["x"], ["a", "b"]))
    with pytest.raises(InternalError, match=r"PyTorch execute failure: output must be of type Ten"):
        backend.run({"x": X.copy()}, ["a"])


# --- parameters -----------------------------------------------------------------------------------


def test_parameters_reach_the_library(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    parameters = {
        "DISABLE_OPTIMIZED_EXECUTION": "true",
        "DISABLE_CUDNN": "1",
        "ENABLE_JIT_EXECUTOR": "false",
        "ENABLE_JIT_PROFILING": "false",
        "ENABLE_TENSOR_FUSER": "true",
        "ENABLE_CACHE_CLEANING": "true",
        "INTRA_OP_THREAD_COUNT": "2",
    }
    backend = load(make_model(tmp_path, ["left", "right"], ["sum"], parameters))
    assert native._get_graph_executor_optimize() is False
    assert torch.backends.cudnn.enabled is False
    assert native._jit_set_profiling_executor(False) is False
    assert native._jit_set_profiling_mode(False) is False
    assert native._jit_texpr_fuser_enabled() is True
    assert torch.get_num_threads() == 2
    result = backend.run({"left": X.copy(), "right": X.copy()}, ["sum"])
    np.testing.assert_array_equal(result["sum"], 2 * X)


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("true", True), ("false", False)])
def test_inference_mode_is_on_unless_it_is_turned_off(
    tmp_path: Path, value: str | None, expected: bool
) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        assert not torch.is_grad_enabled()\n"
        "        return torch.full((len(x),), torch.is_inference_mode_enabled())\n"
    )
    parameters = {} if value is None else {"INFERENCE_MODE": value}
    outputs = [tensor("mode", "TYPE_BOOL", (1,))]
    backend = load(make_model(tmp_path, ["x"], outputs, parameters, runtime="model.py"))
    assert backend.run({"x": X.copy()}, ["mode"])["mode"].tolist() == [expected, expected]


@pytest.mark.parametrize("key", ["INTER_OP_THREAD_COUNT", "NUM_INTEROP_THREADS"])
def test_inter_op_threads_are_set_only_when_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_interop_threads", seen.append)
    monkeypatch.setattr(torch, "get_num_interop_threads", lambda: 1)
    save_script(AddSub(), tmp_path)
    load(make_model(tmp_path, ["left", "right"], ["sum"]))
    load(make_model(tmp_path, ["left", "right"], ["sum"], {key: "3"}))
    assert seen == [3]


def test_threads_default_to_the_share_of_the_instance(tmp_path: Path) -> None:
    model = make_model(tmp_path, ["x"], ["y"])
    assert pytorch_settings.read_settings(model).intra_op_threads == model.instance.threads


def test_weight_sharing_is_accepted_and_said_to_have_no_effect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_script(AddSub(), tmp_path)
    with caplog.at_level(logging.INFO):
        load(make_model(tmp_path, ["left", "right"], ["sum"], {"ENABLE_WEIGHT_SHARING": "true"}))
    assert "ENABLE_WEIGHT_SHARING has no effect" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("INFERENCE_MODE", "maybe", "parameter 'INFERENCE_MODE' must be 'true' or 'false'"),
        ("INTRA_OP_THREAD_COUNT", "many", "'INTRA_OP_THREAD_COUNT' must be a number of threads"),
        ("TORCH_COMPILE_OPTIONAL_PARAMETERS", "{", "is not JSON"),
        ("TORCH_COMPILE_OPTIONAL_PARAMETERS", "[]", "must be a JSON object"),
        ("TORCH_COMPILE_OPTIONAL_PARAMETERS", '{"model": 1}', "'model' is not an optional param"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(
    tmp_path: Path, key: str, value: str, expected: str
) -> None:
    save_script(AddSub(), tmp_path)
    assert expected in failure(make_model(tmp_path, ["left", "right"], ["sum"], {key: value}))


# --- torch.export ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (
            ["ARGS[0]", "ARGS[1][0]", "ARGS[1][1]", "KWARGS[scale]"],
            ["RESULT[product]", "RESULT[sums][0]", "RESULT[sums][1]"],
        ),
        (
            ["INPUT__0", "INPUT__1", "INPUT__2", "INPUT__3"],
            ["OUTPUT__0", "OUTPUT__1", "OUTPUT__2"],
        ),
        (["x", "pair_0", "pair_1", "scale"], ["OUTPUT__0", "RESULT[sums][0]", "OUTPUT__2"]),
    ],
)
def test_an_exported_program_is_addressed_by_path_or_index_or_argument(
    tmp_path: Path, inputs: list[str], outputs: list[str]
) -> None:
    save_nested_export(tmp_path)
    # The order of the configuration must not matter.
    backend = load(make_model(tmp_path, inputs[::-1], outputs[::-1]))
    arrays = [X.copy(), 10 * X, 20 * X, np.array([3], dtype=np.float32)]
    result = backend.run(dict(zip(inputs, arrays, strict=True)), outputs)
    for name, factor in zip(outputs, (3, 11, 21), strict=True):
        np.testing.assert_array_equal(result[name], factor * X)


def test_an_exported_program_with_one_result_calls_it_result(tmp_path: Path) -> None:
    save_export(tmp_path, Scaled(), torch.zeros(2, 4))
    backend = load(make_model(tmp_path, ["x"], [tensor("RESULT", dims=(3,))]))
    assert backend.run({"x": X.copy()}, ["RESULT"])["RESULT"].shape == (2, 3)


def test_an_exported_program_keeps_the_arguments_that_were_fixed(tmp_path: Path) -> None:
    class Times(torch.nn.Module):
        def forward(self, factor: int, x: torch.Tensor) -> torch.Tensor:
            return x * factor

    save_export(tmp_path, Times(), 3, torch.zeros(2, 4))
    result = load(make_model(tmp_path, ["ARGS[1]"], ["RESULT"])).run(
        {"ARGS[1]": X.copy()}, ["RESULT"]
    )
    np.testing.assert_array_equal(result["RESULT"], 3 * X)


def test_a_name_that_an_exported_program_does_not_have_is_refused_with_those_it_has(
    tmp_path: Path,
) -> None:
    save_export(tmp_path, Scaled(), torch.zeros(2, 4))
    message = failure(make_model(tmp_path, ["image"], ["RESULT"]))
    assert "unexpected input 'image' for model 'm': the program has ARGS[0]" in message
    message = failure(make_model(tmp_path, ["ARGS[0]"], ["scores"]))
    assert "unexpected output 'scores' for model 'm': the program has RESULT" in message


def test_a_shape_that_an_exported_program_was_not_made_for_is_an_error(tmp_path: Path) -> None:
    save_export(tmp_path, Scaled(), torch.zeros(2, 4))
    backend = load(make_model(tmp_path, ["x"], [tensor("RESULT", dims=(3,))]))
    with pytest.raises(InternalError, match=r"^PyTorch execute failure: Guard failed"):
        backend.run({"x": np.zeros((2, 5), dtype=np.float32)}, ["RESULT"])


def test_strings_are_refused_by_an_exported_program(tmp_path: Path) -> None:
    save_export(tmp_path, Scaled(), torch.zeros(2, 4))
    inputs = [tensor("x", "TYPE_STRING", (-1,))]
    message = failure(make_model(tmp_path, inputs, ["RESULT"], max_batch_size=0))
    assert "unsupported datatype TYPE_STRING for 'x'" in message


# --- AOTInductor ----------------------------------------------------------------------------------


COMPILE = """
import torch, torch._inductor
program = torch.export.load("exported.pt2")
torch._inductor.aoti_compile_and_package(program, package_path="model.pt2")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor compiles with g++")
def test_an_aoti_package_is_told_by_its_content_and_addressed_like_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_nested_export(tmp_path)
    (tmp_path / "model.pt2").rename(tmp_path / "exported.pt2")
    command = [sys.executable, "-W", "ignore", "-c", COMPILE]
    # The compiler leaves its headers in the folder for temporary files, hence a process of its own.
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, check=True)
    inputs = ["KWARGS[scale]", "ARGS[0]", "INPUT__1", "ARGS[1][1]"]
    backend = load(
        make_model(tmp_path, inputs, ["RESULT[sums][1]", "OUTPUT__0"], platform="torch_aoti")
    )
    arrays = [np.array([3], dtype=np.float32), X.copy(), 10 * X, 20 * X]
    result = backend.run(dict(zip(inputs, arrays, strict=True)), ["OUTPUT__0", "RESULT[sums][1]"])
    np.testing.assert_array_equal(result["OUTPUT__0"], 3 * X)
    np.testing.assert_array_equal(result["RESULT[sums][1]"], 21 * X)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    message = failure(make_model(tmp_path, inputs, ["OUTPUT__0"], kind="GPU"))
    assert "model.pt2 was compiled for cpu, but instance 'm_0_0' runs on cuda:0" in message
    backend.unload()


# --- runtime: "model.py" --------------------------------------------------------------------------

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))
    def forward(self, x, y):
        return [x * self.factor, y]
"""


def test_a_module_in_python_gets_its_weights_from_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(NET)
    torch.save({"factor": torch.full((1,), 5.0)}, tmp_path / "model.pt")
    model = make_model(
        tmp_path, ["a", "b"], ["p", "q"], runtime="model.py", default_model_filename="model.pt"
    )
    backend = load(model)
    result = backend.run({"b": 2 * X, "a": X.copy()}, ["p", "q"])
    np.testing.assert_array_equal(result["p"], 5 * X)
    np.testing.assert_array_equal(result["q"], 2 * X)


def test_the_python_runtime_runs_torchscript_where_there_is_no_model_py(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    model = make_model(tmp_path, ["left", "right"], ["sum"], runtime="model.py")
    result = load(model).run({"left": X.copy(), "right": X.copy()}, ["sum"])
    np.testing.assert_array_equal(result["sum"], 2 * X)


def test_of_several_classes_the_first_by_name_is_served_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\n"
        "from torch.nn import AvgPool2d\n"
        "class Two(torch.nn.Module):\n"
        "    def forward(self, x): return x * 2\n"
        "class One(torch.nn.Module):\n"
        "    def forward(self, x): return x * 1\n"
    )
    backend = load(make_model(tmp_path, ["x"], ["y"], runtime="model.py"))
    np.testing.assert_array_equal(backend.run({"x": X.copy()}, ["y"])["y"], X)
    assert "of the classes One, Two the first by name is served, One" in caplog.text


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import torch\nclass Net(:\n", "model.py, line 2: SyntaxError"),
        ("import torch\n\nundefined\n", "model.py, line 3: NameError: name 'undefined'"),
        ("import no_such_package\n", "model.py, line 1: ModuleNotFoundError"),
        ("x = 1\n", "Cannot find a subclass of torch.nn.Module in model.py"),
        (
            "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        1 / 0\n",
            "model.py, line 4: ZeroDivisionError",
        ),
    ],
)
def test_a_broken_module_is_refused_with_the_line(tmp_path: Path, code: str, expected: str) -> None:
    (tmp_path / "model.py").write_text(code)
    assert expected in failure(make_model(tmp_path, ["x"], ["y"], runtime="model.py"))


def test_weights_that_do_not_fit_the_module_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(NET)
    model = make_model(tmp_path, ["x", "y"], ["p", "q"], runtime="model.py")
    torch.save({"other": torch.ones(1)}, tmp_path / "model.pt")
    message = failure(model)
    assert "model.pt of version 1 is not the state dict of Net" in message
    assert "other" in message


def test_pickled_code_in_place_of_weights_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(NET)
    torch.save(Scaled(), tmp_path / "model.pt")  # a whole module: loading it would run code
    message = failure(make_model(tmp_path, ["x", "y"], ["p", "q"], runtime="model.py"))
    assert "is not the state dict of Net" in message


def test_python_needs_the_runtime_to_be_set(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(NET)
    model = make_model(tmp_path, ["x", "y"], ["p"], default_model_filename="model.py")
    assert 'add runtime: "model.py"' in failure(model)


def test_compilation_is_done_only_when_asked_for_and_needs_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def compile(module: torch.nn.Module, **arguments: Any) -> torch.nn.Module:
        seen.append(arguments)
        return module

    monkeypatch.setattr(torch, "compile", compile)
    (tmp_path / "model.py").write_text(NET)
    key = "TORCH_COMPILE_OPTIONAL_PARAMETERS"
    ports = (["x", "y"], ["p", "q"])
    load(make_model(tmp_path, *ports, runtime="model.py"))
    assert seen == []
    load(make_model(tmp_path, *ports, {key: '{"backend": "eager"}'}, runtime="model.py"))
    assert seen == [{"backend": "eager"}]

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    model = make_model(tmp_path, *ports, {key: '{"mode": "default"}'}, runtime="model.py")
    assert "needs a C++ compiler at run time" in failure(model)


# --- auto-completion ------------------------------------------------------------------------------


def test_a_complete_configuration_is_described_unchanged_without_opening_the_file(
    tmp_path: Path,
) -> None:
    model = make_model(tmp_path, ["x"], ["y"])
    assert pytorch.PyTorchBackend().describe(model) is model.config


def test_a_missing_configuration_is_answered_with_what_to_write(tmp_path: Path) -> None:
    save_script(AddSub(), tmp_path)
    with pytest.raises(InvalidArgumentError) as caught:
        pytorch.PyTorchBackend().describe(make_model(tmp_path, [], []))
    message = caught.value.message
    assert "must list the inputs and outputs" in message
    assert 'input [ { name: "left" data_type: TYPE_FP32 dims: [ -1 ] }, { name: "right"' in message
    assert 'output [ { name: "output__0"' in message
    assert "output__1" in message


def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    save_nested_export(tmp_path)
    model = make_model(tmp_path, ["x", "pair_0", "pair_1", "scale"], [])
    with pytest.raises(InvalidArgumentError) as caught:
        pytorch.PyTorchBackend().describe(model)
    assert "must list the outputs," in caught.value.message
    assert 'name: "RESULT[sums][1]"' in caught.value.message
    assert "input [" not in caught.value.message
