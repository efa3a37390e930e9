"""What was found, as people and programs read it."""

from __future__ import annotations

import json

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.check import report
from tritonpy.supervisor.check.findings import Loaded, ModelReport, Severity
from tritonpy.supervisor.config.locate import Source
from tritonpy.supervisor.config.problems import Problem
from tritonpy.supervisor.models.identifier import ModelIdentifier


def made() -> list[ModelReport]:
    good = ModelReport(ModelIdentifier("", "good"), "python", [1, 3])
    good.loaded = Loaded(True, 1.23456, 3 << 20, ["I [good_0] hello"])
    bad = ModelReport(ModelIdentifier("/r", "bad"))
    source = Source("/r/bad/config.pbtxt", 'backend: "x"\nmax_batch_size: -1\n')
    bad.add_problems(Severity.ERROR, [Problem(("max_batch_size",), "too small", "write 0")], source)
    bad.add(Severity.WARNING, "/r/bad/1/model.py:7: odd", 1)
    with bad.noting(2):
        raise InvalidArgumentError("failed to read text proto from /r/c.pbtxt: line 4, column 2: x")
    return [good, bad]


def test_the_text_names_place_field_and_remedy() -> None:
    assert report.as_text(made()).splitlines() == [
        "good: ok (python, versions 1, 3)",
        "  loaded in 1.23 s, takes 3.0 MiB",
        "  | I [good_0] hello",
        "/r::bad: refused",
        "  error: /r/bad/config.pbtxt:2: too small (field max_batch_size); write 0",
        "  warning: /r/bad/1/model.py:7: version 1: odd",
        "  error: /r/c.pbtxt:4: version 2: failed to read text proto from /r/c.pbtxt: line 4, "
        "column 2: x",
        "2 models: 2 errors, 1 warning, 0 notes",
    ]


def test_the_document_has_the_same_and_leaves_out_what_is_not_known() -> None:
    document = json.loads(report.as_json(made()))
    assert document == {
        "models": [
            {
                "name": "good",
                "ok": True,
                "backend": "python",
                "versions": [1, 3],
                "findings": [],
                "loaded": {
                    "ok": True,
                    "seconds": 1.235,
                    "memory_bytes": 3 << 20,
                    "log": ["I [good_0] hello"],
                },
            },
            {
                "name": "bad",
                "namespace": "/r",
                "ok": False,
                "backend": "",
                "versions": [],
                "findings": [
                    {
                        "severity": "error",
                        "message": "too small",
                        "file": "/r/bad/config.pbtxt",
                        "line": 2,
                        "field": "max_batch_size",
                        "remedy": "write 0",
                    },
                    {
                        "severity": "warning",
                        "message": "odd",
                        "version": 1,
                        "file": "/r/bad/1/model.py",
                        "line": 7,
                    },
                    {
                        "severity": "error",
                        "message": "failed to read text proto from /r/c.pbtxt: line 4, column 2: x",
                        "version": 2,
                        "file": "/r/c.pbtxt",
                        "line": 4,
                    },
                ],
            },
        ],
        "errors": 2,
        "warnings": 1,
        "notes": 0,
    }


def test_the_exit_status_says_whether_all_would_be_served() -> None:
    good, bad = made()
    assert report.exit_status([good]) == 0
    assert report.exit_status([good, bad]) == 1
    assert report.exit_status([]) == 0
