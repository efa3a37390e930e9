"""The servers that the cases are asked of."""

from __future__ import annotations

from .case import Setup

PROTOCOL = Setup("protocol")
BACKEND = Setup("backend")
CONTROL = Setup("control", ("--model-control-mode=explicit", "--load-model=other"))
FILES = Setup("control", ("--model-control-mode=explicit",))
NAMESPACES = Setup(
    "namespaces",
    ("--model-control-mode=explicit", "--model-namespacing=true", "--load-model=single"),
    ("first", "second"),
)
EXTENSIONS = Setup("extensions")
_GROUPS = "metadata,inference,shared-memory,model-config,model-repository,statistics,trace,logging"
RESTRICTED = Setup(
    "protocol",
    (
        f"--http-restricted-api={_GROUPS}:Admin-Key=a=b",
        f"--grpc-restricted-protocol={_GROUPS}:admin-key=a=b",
    ),
)
CACHED = Setup(
    "cached",
    (
        "--cache-config=local,size=1048576",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in ("hits", "bytes", "outputs", "errors", "uncached")),
    ),
)
ENSEMBLES = Setup("ensembles", ("--model-control-mode=explicit",))
SHAPED = Setup("shaped")
SENDERS = Setup("senders")
UTILITIES = Setup("utilities")
BACKENDS = Setup("python_based", ("--model-control-mode=explicit",), ("models",), "backends")
ENVIRONMENTS = Setup("environments", ("--model-control-mode=explicit",))
_CALLED = ("identity", "versions", "optional", "decoupled", "unruly", "seen", "single")
CALLS = Setup(
    "calls",
    ("--model-control-mode=explicit", *(f"--load-model={name}" for name in _CALLED)),
)
