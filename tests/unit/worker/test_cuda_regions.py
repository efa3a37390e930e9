"""Clients' memory on GPUs in a worker: opened once, read and written where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import cuda_stand_in
from support.gpu import Allocation, Gpus

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.ipc.messages import AttachCudaRegion
from tritonpy.ipc.tensor import CudaRegion, Tensor
from tritonpy.worker.cuda import CudaError, CudaPython
from tritonpy.worker.cuda_regions import CudaRegions, on_host, ordinal
from tritonpy.worker.device_tensor import DeviceTensor
from tritonpy.worker.memory import Memory

NUMBER = 1 << 33


def attachment(
    handle: bytes, size: int, device: int = 0, entry: str = "", visible: str = ""
) -> AttachCudaRegion:
    return AttachCudaRegion(NUMBER, "r", handle, device, entry or str(device), visible, size)


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    gpus = Gpus(tmp_path)
    monkeypatch.setenv(cuda_stand_in.MEMORY_VARIABLE, str(gpus.memory))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    cuda_stand_in.calls.clear()
    return gpus


@pytest.fixture
def client(gpus: Gpus) -> Allocation:
    return gpus.allocate(np.arange(8, dtype=np.float32))


@pytest.fixture
def memory(client: Allocation) -> Iterator[Memory]:
    memory = Memory(CudaRegions(lambda: CudaPython(cuda_stand_in)))
    assert memory.cuda.attach(attachment(client.handle, 32)) is None
    yield memory
    memory.cuda.detach(NUMBER)
    assert cuda_stand_in.opened == {}


def place(offset: int = 0, size: int = 16) -> CudaRegion:
    return CudaRegion(NUMBER, offset, size)


def tensor(offset: int = 0, count: int = 4) -> Tensor:
    return Tensor("IN", "FP32", (count,), place(offset, 4 * count))


# --- which GPU it is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "expected"),
    [(None, 3), ("7", 0), ("GPU-a, 7", 1)],
    ids=["sees all", "pinned to it", "sees some"],
)
def test_a_gpu_has_the_number_under_which_the_worker_sees_it(
    ours: str | None, expected: int
) -> None:
    environment = {} if ours is None else {"CUDA_VISIBLE_DEVICES": ours}
    message = attachment(b"", 1, device=3, entry="7", visible="4,5,6,7")
    assert ordinal(message, environment) == expected


@pytest.mark.parametrize("visible", ["4,5", ""])
def test_a_worker_that_sees_none_is_let_see_the_servers(visible: str) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    assert ordinal(attachment(b"", 1, device=1, entry="5", visible=visible), environment) == 1
    assert environment.get("CUDA_VISIBLE_DEVICES", "") == visible


def test_a_worker_on_another_gpu_says_what_to_do() -> None:
    with pytest.raises(InvalidArgumentError, match=r"region 'r' lies on GPU 1.*sees GPU 0 only"):
        ordinal(attachment(b"", 1, device=1), {"CUDA_VISIBLE_DEVICES": "0"})


# --- opening ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("gpus")
def test_a_handle_that_leads_nowhere_is_refused_in_tritons_words_and_so_are_requests() -> None:
    regions = CudaRegions(lambda: CudaPython(cuda_stand_in))
    failure = regions.attach(attachment(bytes(64), 1))
    assert isinstance(failure, InvalidArgumentError)
    assert failure.message == (
        "failed to register CUDA shared memory region 'r': failed to open CUDA IPC handle: "
        "invalid value"
    )
    with pytest.raises(InvalidArgumentError, match="failed to open CUDA IPC handle"):
        regions[place()]
    regions.detach(NUMBER)


@pytest.mark.usefixtures("gpus")
def test_a_region_is_no_larger_than_its_allocation(client: Allocation) -> None:
    regions = CudaRegions(lambda: CudaPython(cuda_stand_in))
    failure = regions.attach(attachment(client.handle, 33))
    assert failure is not None
    assert failure.message == "failed to register CUDA shared memory region 'r': invalid args"
    assert cuda_stand_in.opened == {}


def test_a_machine_without_cuda_is_told() -> None:
    def missing() -> CudaPython:
        raise CudaError("no driver")

    failure = CudaRegions(missing).attach(attachment(bytes(64), 1, device=0))
    assert failure is not None
    assert failure.message.endswith("failed to open CUDA IPC handle: no driver")


def test_a_region_that_did_not_arrive_is_an_error() -> None:
    with pytest.raises(InternalError, match="did not get to this worker"):
        CudaRegions()[place()]
    CudaRegions().detach(NUMBER)


# --- tensors ------------------------------------------------------------------------------------


def test_a_backend_of_the_host_gets_a_copy(memory: Memory, client: Allocation) -> None:
    array = memory.array(tensor(8), "m", "")
    client.write(bytes(32))
    np.testing.assert_array_equal(array, [2, 3, 4, 5])
    array += 1  # it is the model's own


def test_a_backend_of_the_gpu_gets_the_clients_bytes_where_they_are(
    memory: Memory, client: Allocation
) -> None:
    memory.device_inputs = True
    found: object = memory.array(tensor(8), "m", "")
    assert isinstance(found, DeviceTensor)
    assert (found.shape, found.datatype, found.device) == ((4,), "FP32", 0)
    assert cuda_stand_in.calls == []
    client.write(np.full(8, 9, np.float32).tobytes())
    np.testing.assert_array_equal(on_host({"IN": found})["IN"], [9, 9, 9, 9])  # type: ignore[dict-item]


def test_texts_are_read_on_the_host(gpus: Gpus) -> None:
    framed = b"\x02\0\0\0ab\x01\0\0\0c"
    memory = Memory(CudaRegions(lambda: CudaPython(cuda_stand_in)))
    memory.device_inputs = True
    memory.cuda.attach(attachment(gpus.allocate(framed).handle, len(framed)))
    read = memory.array(Tensor("IN", "BYTES", (2,), place(0, len(framed))), "m", "")
    assert read.tolist() == [b"ab", b"c"]
    memory.cuda.detach(NUMBER)


def test_a_size_that_does_not_fit_the_shape_is_refused_as_any_other(memory: Memory) -> None:
    memory.device_inputs = True
    with pytest.raises(InvalidArgumentError, match="has 12 bytes"):
        memory.array(Tensor("IN", "FP32", (4,), place(0, 12)), "m", "")


def test_an_output_is_written_to_its_place(memory: Memory, client: Allocation) -> None:
    placed = memory.place_in_region("OUT", np.array([7, 8], np.float32), place(4, 8))
    assert placed.data == place(4, 8)
    assert np.frombuffer(client.content, np.float32).tolist() == [0, 7, 8, 3, 4, 5, 6, 7]
    memory.place_in_region("OUT", np.zeros(0, np.float32), place(4, 8))


def test_an_output_that_lies_on_the_gpu_is_copied_there(memory: Memory, client: Allocation) -> None:
    source = memory.cuda[place()].tensor(place(16), "FP32", (4,))
    memory.place_in_region("OUT", source, place())  # type: ignore[arg-type]
    assert np.frombuffer(client.content, np.float32).tolist() == [4, 5, 6, 7, 4, 5, 6, 7]
    assert "cuMemcpyDtoD" in cuda_stand_in.calls
    assert "cuMemcpyHtoD" not in cuda_stand_in.calls


def test_an_output_that_does_not_fit_is_told_with_both_sizes(memory: Memory) -> None:
    on_gpu = memory.cuda[place()].tensor(place(0, 32), "FP32", (8,))
    for output in (np.zeros(8, np.float32), on_gpu):
        with pytest.raises(InternalError, match=r"\(16 bytes\) should be at least 32 bytes"):
            memory.place_in_region("OUT", output, place())  # type: ignore[arg-type]


def test_a_copy_that_cuda_refuses_names_the_region(memory: Memory) -> None:
    with pytest.raises(InternalError, match=r"4 bytes of CUDA .* region 'r' cannot be copied"):
        memory.cuda[place()].read(place(1 << 40, 4))
