"""What a model may ask about the server's other models."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import unavailable


def load_model(model_name: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
    """Raises TritonModelException: a model cannot load another one yet."""
    unavailable(f"Loading a model from a model (model '{model_name}')")


def unload_model(model_name: str, unload_dependents: bool = False) -> None:
    """Raises TritonModelException: a model cannot unload another one yet."""
    unavailable(f"Unloading a model from a model (model '{model_name}')")


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Raises TritonModelException: a model cannot ask about another one yet."""
    unavailable(f"Asking from a model whether another is ready (model '{model_name}')")
