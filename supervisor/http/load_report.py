"""How full a language model's key-value cache is, as a header of generate's answers (ORCA)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

_logger = logging.getLogger(__name__)

#: What a client asks by, and what it is answered with.
ASKED_BY = "endpoint-load-metrics-format"
_HEADER = b"endpoint-load-metrics"

_FAMILY = "nv_trt_llm_kv_cache_block_metrics"
_SAMPLE = re.compile(rf"^{_FAMILY}\{{([^}}]*)\}} (\S+)$", re.MULTILINE)
_KIND = re.compile(r'kv_cache_block_type="([^"]*)"')


def no_metrics() -> str:
    """The text of a server that has no metrics."""
    return ""


def header_line(form: str, metrics: Callable[[], str]) -> bytes:
    """The header's line in the form `text` or `json`, made of the metrics' text; empty without
    what it takes, which the log then says.
    """
    if form not in ("text", "json"):
        _logger.error("%s is set to an invalid type: %s", ASKED_BY, form)
        return b""
    found: dict[str, float] = {}
    for labels, value in _SAMPLE.findall(metrics()):
        kind = _KIND.search(labels)
        if kind is not None:
            found[kind[1]] = float(value)
    blocks = [found.get(kind, -1.0) for kind in ("tokens_per", "used", "max")]
    if min(blocks) < 0:
        _logger.error("One or more of the kv metrics was not found or invalid.")
        return b""
    tokens, used, most = blocks
    report = {
        "kv_cache_utilization": used / most if most else 0.0,
        "max_token_capacity": int(most * tokens),
    }
    if form == "json":
        text = "JSON " + json.dumps({"named_metrics": report}, separators=(",", ":"))
    else:
        named = (f"named_metrics.{name}={value}" for name, value in report.items())
        text = "TEXT " + ", ".join(named)
    return b"%b: %b\r\n" % (_HEADER, text.encode())
