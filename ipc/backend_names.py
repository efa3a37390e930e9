"""The names of backends: those that are built in, those to come, and where packages add others."""

from __future__ import annotations

from importlib import metadata

#: Backends whose classes are in worker/, with the extra that installs their framework; "" when
#: they need none.
BUILT_IN: dict[str, str] = {
    "onnxruntime": "cpu",
    "pytorch": "torch",
    "python": "",
    "identity": "",
    "repeat": "",
    "square": "",
}

#: Backends of Triton that have their place here, with the extra that will bring them.
PLANNED: dict[str, str] = {
    "tensorrt": "tensorrt",
    "tensorflow": "tensorflow",
    "openvino": "openvino",
}

#: Other packages offer a backend under this entry point group: its name, and its Backend class.
ENTRY_POINTS = "tritonpy.backends"


def entry_point(name: str) -> metadata.EntryPoint | None:
    """Where a package of this interpreter offers a backend; None when none does. Blocking."""
    found = metadata.entry_points(group=ENTRY_POINTS)
    return next((point for point in found if point.name == name), None)
