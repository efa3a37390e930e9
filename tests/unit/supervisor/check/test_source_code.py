"""A model's file is judged by its text alone."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tritonpy.supervisor.check.source_code import SourceCode, look

GOOD = """
    class TritonPythonModel:
        def execute(self, requests):
            return []
"""


def judged(tmp_path: Path, text: str | bytes) -> SourceCode:
    path = tmp_path / "model.py"
    path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    return look(str(path))


def test_a_model_without_completion_is_as_its_configuration_says(tmp_path: Path) -> None:
    assert judged(tmp_path, GOOD) == SourceCode(completes=False)


@pytest.mark.parametrize(
    "more",
    [
        "    @staticmethod\n        def auto_complete_config(config): return config",
        "    auto_complete_config = staticmethod(lambda config: config)",
        "    auto_complete_config: object = None",
        "    if True:\n            def auto_complete_config(config): return config",
    ],
)
def test_a_model_that_completes_its_configuration_says_so(tmp_path: Path, more: str) -> None:
    assert judged(tmp_path, f"{GOOD}\n    {more}\n") == SourceCode(completes=True)


@pytest.mark.parametrize(
    "text",
    [
        "from elsewhere import TritonPythonModel",
        "from elsewhere import Model as TritonPythonModel",
        "from elsewhere import *",
        "import elsewhere\nTritonPythonModel = elsewhere.make()",
        "globals()['Triton' + 'PythonModel'] = object",
        "def __getattr__(name): return object",
        "try:\n    class TritonPythonModel: pass\nexcept Exception: pass",
        "class TritonPythonModel(Parent): pass",
        "@decorated\nclass TritonPythonModel: pass",
        "class TritonPythonModel(metaclass=Meta): pass",
        "class TritonPythonModel:\n    exec('def execute(self, r): pass')\n    from x import *",
    ],
)
def test_what_the_text_does_not_tell_is_not_a_mistake(tmp_path: Path, text: str) -> None:
    assert judged(tmp_path, text) == SourceCode()


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    (mistake,) = judged(tmp_path, "x = 1\ndef f(:\n").mistakes
    assert mistake.line == 2
    assert mistake.message.startswith("SyntaxError: ")


def test_a_file_without_the_class_is_told(tmp_path: Path) -> None:
    (mistake,) = judged(tmp_path, "class TritonPythonmodel: pass").mistakes
    assert "does not define the class `TritonPythonModel`" in mistake.message


def test_a_class_without_execute_is_told_with_its_line(tmp_path: Path) -> None:
    (mistake,) = judged(tmp_path, "x = 1\nclass TritonPythonModel:\n    pass\n").mistakes
    assert mistake.line == 2
    assert "does not implement `execute` method" in mistake.message


@pytest.mark.parametrize("content", [b"x = '\0'", b"\xff\xfe", b"-" * 100_000 + b"1"])
def test_what_is_no_python_is_told_and_nothing_breaks(tmp_path: Path, content: bytes) -> None:
    assert len(judged(tmp_path, content).mistakes) == 1


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (mistake,) = look(str(tmp_path / "absent.py")).mistakes
    assert "cannot be read" in mistake.message
