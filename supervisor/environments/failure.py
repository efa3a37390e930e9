"""Why an environment cannot be had."""

from __future__ import annotations


class EnvironmentFailure(Exception):
    """Raised when an environment cannot be made or used; says why, and not for which model."""
