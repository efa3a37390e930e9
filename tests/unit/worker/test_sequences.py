"""Implicit state: what a sequence's last request left is what its next one is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, Instance, Request
from tritonpy.ipc.tensor import encode_bytes
from tritonpy.worker.backend import Array, Model
from tritonpy.worker.sequences import SequenceStates, filled, without_nulls

START, END = FLAG_SEQUENCE_START, FLAG_SEQUENCE_END


def state(dims: list[int], data_type: str = "TYPE_INT32", **more: Any) -> dict[str, Any]:
    return {
        "input_name": "in",
        "output_name": "out",
        "data_type": data_type,
        "dims": dims,
        **more,
    }


def states(
    *entries: dict[str, Any], batch: int = 0, folder: Path = Path("/nowhere")
) -> SequenceStates:
    config = {"max_batch_size": batch, "sequence_batching": {"state": list(entries)}}
    instance = Instance("m_0", "CPU", 0, 1)
    return SequenceStates(Model("m", 1, str(folder), str(folder / "1"), config, instance, {}))


def step(slot: int = 0, flags: int = 0) -> Request:
    return Request(1, [], ["y"], flags=flags, slot=slot)


def given(kept: SequenceStates, request: Request) -> Array:
    inputs: dict[str, Array] = {}
    kept.put_in(request, inputs)
    return inputs["in"]


def leave(kept: SequenceStates, request: Request, *values: int) -> None:
    kept.keep(request, {"out": np.array(values, np.int32)})


def test_a_model_without_states_has_nothing_to_keep() -> None:
    instance = Instance("m_0", "CPU", 0, 1)
    assert not SequenceStates(Model("m", 1, "/m", "/m/1", {}, instance, {}))


def test_the_state_goes_from_request_to_request_of_its_slot() -> None:
    kept = states(state([2]))
    assert given(kept, step(0, START)).tolist() == [0, 0]
    leave(kept, step(0, START), 1, 2)
    leave(kept, step(1, START), 7, 8)

    assert given(kept, step(0)).tolist() == [1, 2]
    assert given(kept, step(1)).tolist() == [7, 8]


def test_a_start_begins_anew_and_an_end_leaves_nothing() -> None:
    kept = states(state([1]))
    leave(kept, step(0, START), 5)
    assert given(kept, step(0, START)).tolist() == [0]
    leave(kept, step(0, END), 6)

    assert "0 slots" in repr(kept)


def test_what_is_kept_is_a_copy() -> None:
    kept = states(state([1]))
    array = np.array([5], np.int32)
    kept.keep(step(), {"out": array})

    array[0] = 6

    assert given(kept, step()).tolist() == [5]


def test_a_state_may_grow_and_what_varies_is_one_long_at_first() -> None:
    kept = states(state([-1, 2]), batch=4)
    assert given(kept, step(0, START)).shape == (1, 1, 2)

    kept.keep(step(), {"out": np.zeros((1, 3, 2), np.int32)})

    assert given(kept, step()).shape == (1, 3, 2)


@pytest.mark.parametrize("shape", [(1, 2), (1, 2, 3), (2, 1, 2)])
def test_a_state_of_another_shape_than_configured_is_refused(shape: tuple[int, ...]) -> None:
    kept = states(state([-1, 2]), batch=4)

    with pytest.raises(InternalError, match=r"state 'out' with shape .*, expected \[1, -1, 2\]"):
        kept.keep(step(), {"out": np.zeros(shape, np.int32)})


def test_a_response_without_a_state_leaves_it_as_it_was() -> None:
    kept = states(state([1]))
    leave(kept, step(0, START), 5)

    kept.keep(step(), {"y": np.zeros(1)})

    assert given(kept, step()).tolist() == [5]


def test_a_request_of_no_sequence_starts_and_leaves_nothing() -> None:
    kept = states(state([1]))
    leave(kept, step(-1), 5)

    assert given(kept, step(-1)).tolist() == [0]


def test_a_request_may_bring_its_own_state() -> None:
    inputs: dict[str, Array] = {"in": np.array([9], np.int32)}
    states(state([1])).put_in(step(-1), inputs)

    assert inputs["in"].tolist() == [9]


def test_states_are_computed_beside_what_clients_want() -> None:
    kept = states(state([1]))

    assert kept.wanted(["y"]) == ["y", "out"]
    assert kept.wanted(["out", "y"]) == ["out", "y"]


# --- initial states -------------------------------------------------------------------------------


def test_an_initial_state_may_be_longer_than_one(tmp_path: Path) -> None:
    zero = {"data_type": "TYPE_INT32", "dims": ["3"], "zero_data": True, "name": "zero"}

    assert given(states(state([-1], initial_state=[zero])), step(0, START)).tolist() == [0, 0, 0]


def initial(folder: Path, data: bytes, file: str = "first", **more: Any) -> dict[str, Any]:
    (folder / "initial_state").mkdir()
    (folder / "initial_state" / "first").write_bytes(data)
    return {"dims": ["2"], "data_file": file, "name": "first", **more}


def test_an_initial_state_may_come_from_a_file(tmp_path: Path) -> None:
    entry = initial(tmp_path, np.array([3, 4, 5], np.int32).tobytes())
    kept = states(state([2], initial_state=[entry]), batch=2, folder=tmp_path)

    assert given(kept, step(0, START)).tolist() == [[3, 4]]


def test_an_initial_state_may_be_text(tmp_path: Path) -> None:
    entry = initial(tmp_path, encode_bytes(["a", "bc"]))
    kept = states(state([2], "TYPE_STRING", initial_state=[entry]), folder=tmp_path)

    assert given(kept, step(0, START)).tolist() == [b"a", b"bc"]
    assert given(states(state([1], "TYPE_STRING")), step(0, START)).tolist() == [b""]


@pytest.mark.parametrize(
    ("data_type", "file", "message"),
    [
        (
            "TYPE_INT32",
            "first",
            "^initial_state setting expects 8 bytes, but the data provided from first only has 5",
        ),
        ("TYPE_INT32", "other", "the file 'initial_state/other' cannot be read: No such file"),
        ("TYPE_INT32", "../config.pbtxt", "does not lie in the model's folder 'initial_state'"),
        ("TYPE_STRING", "first", "'initial_state/first': incomplete string data"),
    ],
)
def test_a_file_that_cannot_be_the_initial_state_is_refused(
    tmp_path: Path, data_type: str, file: str, message: str
) -> None:
    entry = initial(tmp_path, b"\x04\0\0\0x", file)

    with pytest.raises(InvalidArgumentError, match=message):
        states(state([2], data_type, initial_state=[entry]), folder=tmp_path)


# --- batches --------------------------------------------------------------------------------------


def test_requests_whose_states_differ_in_shape_run_in_groups() -> None:
    kept = states(state([-1]))
    rows: list[tuple[Request, dict[str, Array]]] = [
        (step(slot), {"in": np.zeros(length)}) for slot, length in enumerate((2, 3, 2))
    ]

    groups = kept.alike(rows)

    assert [[request.slot for request, _ in group] for group in groups] == [[0, 2], [1]]


def test_null_requests_get_zeros_like_the_others() -> None:
    null = Request(0, [], [], null=True)
    words = np.array([b"x"], object)
    real: dict[str, Array] = {"x": np.ones((1, 2), np.float32), "w": words, "R": np.ones(1)}
    rows = [(null, {"R": np.zeros(1)}), (step(), real)]

    first, second = filled(rows)

    assert first[1]["x"].tolist() == [[0, 0]]
    assert first[1]["x"].dtype == np.float32
    assert first[1]["w"].tolist() == [b""]
    assert first[1]["R"].tolist() == [0]
    assert second[1] is real
    assert without_nulls([first, second]) == [second]


def test_null_requests_alone_are_nothing_to_run() -> None:
    assert filled([(Request(0, [], [], null=True), {})]) == []
