"""Models whose tensors have another shape for clients, or another one in each request."""

from __future__ import annotations

from pathlib import Path

from .model_files import DATATYPES, config, write_model

#: What the input and the output of a model are to clients, and to the model: `None` is the same.
Sides = tuple[tuple[str, str | None], tuple[str, str | None]]

_FLAT = ("2,3", "6")
_DEEP = ("6", "2,3")
_ONE = ("1", "")
_VARIABLE = ("1,-1", "-1")
_UPRIGHT = ("-1,1", "1,-1")

#: Each echoes its input: what it has got is what it answers with.
RESHAPES: dict[str, Sides] = {
    "flat": (_FLAT, _FLAT),
    "deep": (_DEEP, _DEEP),
    "one": (_ONE, _ONE),
    "variable": (_VARIABLE, _VARIABLE),
    "upright": (_UPRIGHT, _UPRIGHT),
    "given": (_FLAT, ("6", None)),
    "answered": (("6", None), _FLAT),
    "own": (("2,3", None), _FLAT),
    "own_deep": (("6", None), _DEEP),
}


def _tensor(name: str, datatype: str, dims: str, shape: str | None) -> str:
    reshape = "" if shape is None else f"reshape {{ shape: [ {shape} ] }}"
    return f"{name} {datatype} {dims} {reshape}"


def shaped(repository: Path) -> None:
    """Models with a `reshape`, with batches and without, and models that take ragged batches."""
    for name, (given, answered) in RESHAPES.items():
        tensors = [_tensor("IN", "FP32", *given)], [_tensor("OUT", "FP32", *answered)]
        if given != _ONE:  # a scalar needs a batch
            write_model(repository, name, "echo", config(*tensors))
        write_model(repository, f"{name}_batches", "echo", config(*tensors, batch=4))
    types = (
        [_tensor(f"IN_{name}", name, *_FLAT) + " optional: true" for name in DATATYPES],
        [_tensor(f"OUT_{name}", name, *_FLAT) for name in DATATYPES],
    )
    write_model(repository, "types", "echo", config(*types))
    # A minute: whoever is answered was in a batch of four rows, or in one by itself.
    four = "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 60000000 }"
    answers = ["OUT FP32 -1", "TOGETHER INT32 1"]
    for name, more, batching in (
        ("ragged", "allow_ragged_batch: true", four),
        ("even", "", four),
        ("ragged_alone", "allow_ragged_batch: true", ""),
    ):
        text = config([f"IN FP32 -1 {more}"], answers, batching, batch=4)
        write_model(repository, name, "ragged", text)
