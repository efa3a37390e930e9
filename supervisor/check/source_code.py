"""A look at a model.py without running it: is it Python, and has it what a model must have?"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

_CLASS = "TritonPythonModel"
_COMPLETION = "auto_complete_config"


@dataclass(frozen=True, slots=True)
class Mistake:
    """What keeps the file from being a model."""

    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class SourceCode:
    """What the text of a file tells.

    `completes` is whether the model may complete its configuration, which is also so where the
    text does not tell.
    """

    completes: bool = True
    mistakes: tuple[Mistake, ...] = ()


def look(path: str) -> SourceCode:
    """Read a file. Blocking."""
    tree = _parsed(path)
    return SourceCode(mistakes=(tree,)) if isinstance(tree, Mistake) else _judged(tree, path)


def syntax_error(path: str) -> Mistake | None:
    """What keeps a file from being Python; None when it is. Blocking."""
    tree = _parsed(path)
    return tree if isinstance(tree, Mistake) else None


def _parsed(path: str) -> ast.Module | Mistake:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        return Mistake(f"{path} cannot be read: {error.strerror or error}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever Python thinks of its style
            return ast.parse(content, path)
    except SyntaxError as error:
        return Mistake(f"SyntaxError: {error.msg}", error.lineno)
    except ValueError as error:  # null bytes
        return Mistake(f"it is no Python: {error}")
    except (RecursionError, MemoryError):
        return Mistake("it is nested too deeply for Python")


def _judged(tree: ast.Module, path: str) -> SourceCode:
    found = next(
        (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == _CLASS), None
    )
    if found is None:
        if _may_bind(tree):
            return SourceCode()
        mistake = Mistake(f"Python model {path} does not define the class `{_CLASS}`.")
        return SourceCode(mistakes=(mistake,))
    if found.bases or found.keywords or found.decorator_list:
        return SourceCode()  # the rest of it is somewhere else
    names = _names(found)
    mistakes: tuple[Mistake, ...] = ()
    if "execute" not in names and "*" not in names:
        text = f"Python model {path} does not implement `execute` method."
        mistakes = (Mistake(text, found.lineno),)
    return SourceCode(_COMPLETION in names or "*" in names, mistakes)


def _may_bind(tree: ast.Module) -> bool:
    """Whether the class may come from anywhere else than a class statement at the top."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == _CLASS:
            return True
        if isinstance(node, ast.ClassDef) and node.name == _CLASS:
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) in (_CLASS, "*"):
            return True
        if isinstance(node, ast.Call) and _called(node) in ("globals", "setattr", "exec"):
            return True
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body
    )


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _names(found: ast.ClassDef) -> set[str]:
    """What the class has by itself; "*" where statements may give it anything."""
    names: set[str] = set()
    for node in found.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif not isinstance(node, ast.Expr | ast.Pass):
            names.add("*")
    return names
