"""What a configuration may ask for that this version of the server cannot do yet.

Without what changes a model's answers the model is refused; without what changes only when they
come it is served, and the log says what is missing.
"""

from __future__ import annotations

from ...ipc.errors import UnsupportedError
from ..config.schema import ModelConfig


def refuse_unsupported(config: ModelConfig) -> None:
    """Raise UnsupportedError for a model that cannot answer rightly without a missing feature."""
    missing: list[str] = []
    if config.ensemble_scheduling is not None or config.platform == "ensemble":
        missing.append("ensemble_scheduling")
    if missing:
        raise UnsupportedError(
            f"model '{config.name}' cannot be served: its configuration has {', '.join(missing)}, "
            f"which this version of the server does not support yet"
        )


def missing_features(config: ModelConfig) -> list[str]:
    """Features without which the model still answers correctly, as words for the log."""
    missing: list[str] = []
    if any(group.rate_limiter is not None for group in config.instance_group):
        missing.append("instance_group.rate_limiter")
    return missing
