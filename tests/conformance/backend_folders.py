"""The repository of python-based backends: models, and the folder of their backends."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

from .model_files import write_model

_TELLER = Path(__file__).with_name("models") / "teller.py"


def python_based(repository: Path) -> None:
    """Backends that are a model.py each, and models that name them in all ways."""
    models, backends = repository / "models", repository / "backends"
    for name in ("teller", "native", "broken", "without_class"):
        (backends / name).mkdir(parents=True)
    (backends / "empty").mkdir()
    copyfile(_TELLER, backends / "teller" / "model.py")
    (backends / "teller" / "README.md").write_text("nothing\n")
    copyfile(_TELLER, backends / "native" / "model.py")
    (backends / "native" / "libtriton_native.so").write_text("nothing that can be loaded\n")
    (backends / "broken" / "model.py").write_text("raise RuntimeError('cannot be imported')\n")
    (backends / "without_class" / "model.py").write_text("x = 1\n")

    def model(name: str, backend: str = "teller", runtime: str = "", **files: str) -> None:
        text = f'backend: "{backend}"\n' + (f'runtime: "{runtime}"\n' if runtime else "")
        paths = {f"1/{key.replace('_', '.')}": content for key, content in files.items()}
        write_model(models, name, None, text, files=paths)

    model("plain", model_json="{}", weights_bin="w")
    model("with_own_file", model_py="raise RuntimeError('not to be imported')\n")
    model("python_runtime", runtime="model.py", model_py="raise RuntimeError('not imported')\n")
    model("python_runtime_missing", "empty", "model.py", model_py="x = 1\n")
    model("other_runtime_missing", runtime="other.py")
    model("library_runtime_missing", runtime="libtriton_teller.so")
    model("outside", runtime="../../../backends/teller/model.py")
    model("python_with_library", "python", "libtriton_python.so")
    copyfile(_TELLER, models / "python_with_library" / "1" / "model.py")
    model("python_with_runtime", "python", "model.py", model_py="x = 1\n")
    model("of_native", "native")
    model("of_broken", "broken")
    model("of_without_class", "without_class")
    model("of_empty", "empty")
    model("of_nothing", "no_such_backend")
    model("of_a_path", "a/b")
    write_model(models, "named.teller", None, "max_batch_size: 0\n")
    write_model(models, "no_version", None, 'backend: "teller"\n', versions=())
