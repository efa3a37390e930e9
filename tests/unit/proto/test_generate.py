"""The checked-in code is what the generator writes, and the generator notices what it cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonpy.proto import generate


def test_generated_code_is_fresh() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is in the `dev` extra")

    assert generate.main(["--check"]) == 0


def test_a_changed_proto_file_is_reported_as_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "generate", lambda: {"health_pb2.py": "# another text\n"})

    assert generate.main(["--check"]) == 1
    assert "health_pb2.py is stale" in capsys.readouterr().err


def test_only_stale_files_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    monkeypatch.setattr(generate, "generate", lambda: {"a_pb2.py": "a", "b_pb2.py": "b"})
    (tmp_path / "a_pb2.py").write_text("a", encoding="utf-8")
    (tmp_path / "a_pb2.py").chmod(0o444)

    assert generate.main([]) == 0
    assert (tmp_path / "b_pb2.py").read_text(encoding="utf-8") == "b"


def test_a_generator_that_writes_another_form_is_refused() -> None:
    with pytest.raises(generate.GenerationError, match="expected"):
        generate.rewrite_module("health_pb2", "DESCRIPTOR = something_new()")


def test_sibling_modules_are_imported_relatively() -> None:
    text = "import model_config_pb2 as model__config__pb2\n"

    assert (
        generate.rewrite_imports(text) == "from . import model_config_pb2 as model__config__pb2\n"
    )
