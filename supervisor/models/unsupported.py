"""What a configuration may ask for that this version of the server cannot do yet.

It changes no answer, only when answers come: the model is served, and the log says what is missing.
"""

from __future__ import annotations

from ..config.schema import ModelConfig


def missing_features(config: ModelConfig) -> list[str]:
    """Features without which the model still answers correctly, as words for the log."""
    missing: list[str] = []
    if any(group.rate_limiter is not None for group in config.instance_group):
        missing.append("instance_group.rate_limiter")
    return missing
