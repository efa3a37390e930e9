"""What works but is likely not meant: dims that repeat the batch dimension."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.config import parse
from tritonpy.supervisor.config.defaults import complete_from_files, normalise
from tritonpy.supervisor.config.locate import Source
from tritonpy.supervisor.config.validate import validate


def warnings(text: str) -> list[str]:
    source = Source("/repository/m/config.pbtxt", text)
    config = parse.from_text(text, source.name)
    return validate(normalise(complete_from_files(config, "m", None, source), ()), source)


def batched(inputs: str, outputs: str, max_batch_size: int = 8) -> str:
    return f"""backend: "identity"
max_batch_size: {max_batch_size}
input {{ name: "x" data_type: TYPE_FP32
  dims: {inputs} }}
output {{ name: "y" data_type: TYPE_FP32 dims: {outputs} }}"""


def test_dims_that_repeat_the_batch_dimension_are_pointed_out() -> None:
    (warning,) = warnings(batched("[ -1, 3, 224, 224 ]", "[ -1, 10 ]"))
    assert warning.startswith("/repository/m/config.pbtxt:4: every input and output begins with")
    assert "so clients must send 'x' as [-1, -1, 3, 224, 224] in model 'm'" in warning
    assert "take it out of dims (write [3, 224, 224]), or set max_batch_size: 0" in warning


@pytest.mark.parametrize(
    ("inputs", "outputs"), [("[ 8, 28, 28 ]", "[ 8, 10 ]"), ("[ 1, 28, 28 ]", "[ 1, 10 ]")]
)
def test_a_fixed_batch_in_dims_is_pointed_out(inputs: str, outputs: str) -> None:
    assert len(warnings(batched(inputs, outputs))) == 1


@pytest.mark.parametrize(
    ("inputs", "outputs", "max_batch_size"),
    [
        ("[ -1, 3 ]", "[ -1, 10 ]", 0),
        ("[ -1 ]", "[ -1, 768 ]", 8),
        ("[ -1, 3 ]", "[ 10 ]", 8),
        ("[ 1, 28, 28 ]", "[ 10 ]", 8),
        ("[ 1, 28, 28 ]", "[ 1 ]", 8),
        ("[ 3, 4 ]", "[ 3, 4 ]", 8),
    ],
)
def test_honest_dims_are_left_alone(inputs: str, outputs: str, max_batch_size: int) -> None:
    assert warnings(batched(inputs, outputs, max_batch_size)) == []
