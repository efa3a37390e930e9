"""The servers that the cases are asked of."""

from __future__ import annotations

from .case import Setup

PROTOCOL = Setup("protocol")
BACKEND = Setup("backend")
CONTROL = Setup("control", ("--model-control-mode=explicit", "--load-model=other"))
FILES = Setup("control", ("--model-control-mode=explicit",))
EXTENSIONS = Setup("extensions")
