"""Real surroundings for worker processes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.surroundings import real_surroundings

from tritonpy.supervisor.workers.process import Surroundings


@pytest.fixture
async def surroundings(anyio_backend: str) -> AsyncIterator[Surroundings]:
    """What workers need to live; afterwards nothing of theirs is left."""
    with real_surroundings() as made:
        yield made
