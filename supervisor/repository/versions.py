"""Version policy: which of the version folders are served."""

from __future__ import annotations

from collections.abc import Iterable

from ...ipc.errors import InvalidArgumentError
from ..config.schema import ModelVersionPolicy


def select(policy: ModelVersionPolicy | None, available: Iterable[int], model: str) -> list[int]:
    """The versions to serve, ascending; without a policy the latest one.

    Raises InvalidArgumentError when there is none.
    """
    there = sorted(set(available))
    if policy is not None and policy.specific is not None:
        chosen = sorted(set(policy.specific.versions).intersection(there))
    elif policy is not None and policy.all is not None:
        chosen = there
    else:
        latest = policy.latest if policy is not None else None
        count = latest.num_versions if latest is not None else 1
        chosen = there[-count:] if count else []
    if not chosen:
        raise InvalidArgumentError(
            f"at least one version must be available under the version policy of model '{model}'; "
            + _found(policy, there, model)
        )
    return chosen


def missing(policy: ModelVersionPolicy | None, available: Iterable[int]) -> list[int]:
    """The versions that the policy names and that are not there: worth a line in the log."""
    if policy is None or policy.specific is None:
        return []
    return sorted(set(policy.specific.versions).difference(available))


def _found(policy: ModelVersionPolicy | None, there: list[int], model: str) -> str:
    if not there:
        return f"it has no version folder such as {model}/1"
    if policy is not None and policy.latest is not None:
        return "the policy asks for the latest 0 versions; write num_versions: 1"
    asked = policy.specific.versions if policy is not None and policy.specific is not None else []
    return f"the policy names {asked}, and the folder holds {there}"
