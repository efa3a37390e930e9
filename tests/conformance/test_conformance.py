"""The same questions get the same answers as from the real Triton, whose answers are recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conformance import recordings
from conformance.case import Area, Setup
from conformance.catalogue import AREAS
from conformance.comparison import same
from conformance.defects import DEFECTS
from conformance.differences import DIFFERENCES, Kind
from conformance.player import Player
from conformance.repositories import REPOSITORIES
from conformance.setups import PROTOCOL
from support.servers import serving

#: Of the counted cases, how many are the same at least.
REACHED = 0.98

SETUPS = list(dict.fromkeys(area.setup for area in AREAS))


#: Everything on both transports of gRPC; on the lean one most of it is for CI.
RUNS = [
    *(pytest.param(setup, "grpcio", id=f"{setup.repository}-grpcio") for setup in SETUPS),
    *(
        pytest.param(
            setup,
            "lean",
            id=f"{setup.repository}-lean",
            marks=() if setup == PROTOCOL else pytest.mark.slow,
        )
        for setup in SETUPS
    ),
]


@pytest.mark.parametrize(("setup", "transport"), RUNS)
def test_answers_are_the_recorded_ones(setup: Setup, transport: str, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    REPOSITORIES[setup.repository](repository)
    arguments = [*setup.options(repository), f"--grpc-transport={transport}"]
    with serving(*setup.repositories(repository), arguments=arguments) as server:
        http, metrics = (("127.0.0.1", server.ports[name]) for name in ("http", "metrics"))
        player = Player(http, server.grpc, repository, metrics)
        found = [
            complaint
            for area in AREAS
            if area.setup == setup
            for complaint in _complaints(area, player)
        ]
    assert not found, f"{len(found)} answers differ\n\n" + "\n\n".join(found)


def test_as_many_answers_are_the_same_as_were_before() -> None:
    counted = [name for area in AREAS for name, _ in area.cases()]
    decided = {name for name, entry in DIFFERENCES.items() if entry.kind is Kind.DECIDED}
    assert DIFFERENCES.keys() | DEFECTS <= set(counted), "differences of cases not counted"
    assert len(counted) >= 300
    other = decided | DEFECTS
    assert len(other) <= (1 - REACHED) * len(counted), f"{len(other)} of {len(counted)} differ"


def _complaints(area: Area, player: Player) -> list[str]:
    """What is wrong with the answers to an area's cases, each with both answers."""
    records = recordings.read(area)
    complaints: list[str] = []
    for case, answer in player.play(area):
        name = area.id(case)
        expected = records[name]
        if name in DIFFERENCES:
            if same(expected, answer):
                complaints.append(f"{name}\n  is the recorded answer, but listed as a difference")
                continue
            expected = DIFFERENCES[name].applied(expected)
        if name in DEFECTS:
            if same(expected, answer):
                complaints.append(f"{name}\n  is mended: take it off the list of defects")
        elif not same(expected, answer):
            complaints.append(f"{name}\n  expected {_line(expected)}\n  got      {_line(answer)}")
    return complaints


def _line(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False)
