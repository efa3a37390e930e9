"""Write the configuration and the files of a model that the conformance cases ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

_SOURCES = Path(__file__).with_name("models")

#: The datatypes of the protocol and the names that configurations have for them.
DATATYPES = {
    **{name: f"TYPE_{name}" for name in ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64")},
    **{name: f"TYPE_{name}" for name in ("INT8", "INT16", "INT32", "INT64")},
    **{name: f"TYPE_{name}" for name in ("FP16", "BF16", "FP32", "FP64")},
    "BYTES": "TYPE_STRING",
}

FLOAT = ["IN FP32 4"], ["OUT FP32 4"]


@dataclass(frozen=True)
class _Tensor:
    name: str
    datatype: str
    dims: str
    more: str = ""

    def __str__(self) -> str:
        kind = DATATYPES.get(self.datatype, self.datatype)
        return f'{{ name: "{self.name}" data_type: {kind} dims: [ {self.dims} ] {self.more} }}'


def config(inputs: Sequence[str], outputs: Sequence[str], more: str = "", batch: int = 0) -> str:
    """A configuration of the python backend; a tensor is "NAME DATATYPE DIMS more"."""
    lines = ['backend: "python"']
    if batch:
        lines.append(f"max_batch_size: {batch}")
    for field, tensors in (("input", inputs), ("output", outputs)):
        lines += [f"{field} [ {_Tensor(*text.split(maxsplit=3))} ]" for text in tensors]
    return "\n".join([*lines, more, ""])


def write_model(
    repository: Path,
    name: str,
    source: str | None,
    text: str | None,
    versions: Sequence[str] = ("1",),
    files: dict[str, str] | None = None,
) -> None:
    """Write a model; `source` is the stem of a file in models/, or the code itself."""
    for version in versions:
        folder = repository / name / version
        folder.mkdir(parents=True)
        if source is not None and "\n" in source:
            (folder / "model.py").write_text(source)
        elif source is not None:
            copyfile(_SOURCES / f"{source}.py", folder / "model.py")
    (repository / name).mkdir(exist_ok=True)
    if text is not None:
        (repository / name / "config.pbtxt").write_text(text)
    for path, content in (files or {}).items():
        (repository / name / path).write_text(content)
