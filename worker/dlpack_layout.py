"""DLPack's structures and numbers: how libraries lend each other tensors.

DLManagedTensor │ dl_tensor │ data, device, ndim, dtype, shape, strides, byte_offset
                │ manager_ctx
                │ deleter   │ called once, by whoever renamed the capsule to "used_dltensor"
"""

from __future__ import annotations

import ctypes

#: The devices whose memory a tensor may lie in here.
CPU, CUDA, CUDA_HOST = 1, 2, 3

#: What an element is.
INT, UINT, FLOAT, BFLOAT, BOOL = 0, 1, 2, 4, 6

#: CPython keeps these pointers, so the bytes must live as long as the process.
FRESH, USED = b"dltensor", b"used_dltensor"

Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class DLTensor(ctypes.Structure):
    """A tensor: where it lies, and what it is."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class DLManagedTensor(ctypes.Structure):
    """A tensor that is lent, until its deleter is called."""

    _fields_ = (
        ("dl_tensor", DLTensor),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", Deleter),
    )
