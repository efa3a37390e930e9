"""Take out of an answer what differs from run to run: names, times, and orders by hash."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Answer = dict[str, Any]

_BACKEND_FOLDER = re.compile(r"[^ \"]*/backends/python/")
_FOLDER = re.compile(r"/tmp/folder\w+")
_ADDRESS = re.compile(r"0x[0-9a-f]{8,}")
_FAILED_VERSION = re.compile(r"(is at UNAVAILABLE state: [A-Z][a-z ]+: )[\s\S]+?(;\n)")
#: What follows these words is the server's own prose.
_FRAMES = re.compile(
    r"(failed to poll from model repository|Invalid config override: "
    r"|under the version policy of model '\w+')[\s\S]*"
)
_NAMES = {_BACKEND_FOLDER: "<backend>/", _FOLDER: "<folder>", _ADDRESS: "<address>"}
#: Where a document is wrong, this server tells beside the byte also the line and the column.
_LINE_AND_COLUMN = re.compile(r"( at \d+) \(line \d+, column \d+\)")
_OWN_METRIC = re.compile(r"(# (HELP|TYPE) )?own_")
_SERIES = re.compile(r"\{(.*)\}")
_LABEL = re.compile(r'\w+="(?:[^"\\]|\\.)*"')
_LIST_OF_INPUTS = re.compile(r"(Got input\(s\) )\[([^]]*)\]")


def normalised(answer: Answer, names: Sequence[str], repository: Path) -> Answer:
    """The answer without paths, addresses and what only we tell, and after these normalisers."""
    text = json.dumps(answer, ensure_ascii=False).replace(str(repository), "<repository>")
    for pattern, name in _NAMES.items():
        text = pattern.sub(name, text)
    text = _LINE_AND_COLUMN.sub(r"\1", text)
    result: Answer = json.loads(text)
    if "memory_usage" in text:
        result = _without_memory(result)
    for name in names:
        result = NORMALISERS[name](result)
    return result


def _without_memory(answer: Answer) -> Answer:
    """Statistics without the growth of workers, which the real server does not tell of models that
    have no memory of their own to report.
    """

    def emptied(document: Any) -> Any:
        for entry in document["model_stats"]:
            if "message" in answer:
                entry.pop("memory_usage", None)  # an empty list is not there over gRPC
            else:
                entry["memory_usage"] = []
        return document

    return _with_documents(answer, emptied)


def server_version(answer: Answer) -> Answer:
    """The server's own version."""
    return _with_documents(answer, lambda metadata: {**metadata, "version": "<version>"})


def order_of_inputs(answer: Answer) -> Answer:
    """The inputs that a request brought, in a message that lists them as they were hashed."""

    def ordered(match: re.Match[str]) -> str:
        return f"{match[1]}[{','.join(sorted(match[2].split(',')))}]"

    return _with_message(answer, lambda message: _LIST_OF_INPUTS.sub(ordered, message))


def durations(answer: Answer) -> Answer:
    """Nanoseconds and times of day in statistics: only whether they are zero is kept.

    The memory that models use is left out: the real server tells none of the python backend's.
    """
    memory: dict[str, Any] = {} if "message" in answer else {"memory_usage": []}

    def change(document: Any) -> Any:
        for entry in document["model_stats"]:
            entry.pop("memory_usage", None)
            entry.update(memory)
        return _without_durations(document)

    return _with_documents(answer, change)


def _without_durations(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_durations(item) for item in value]
    if isinstance(value, dict):
        return {
            key: ("some" if int(item) else 0)
            if key in ("ns", "last_inference")
            else _without_durations(item)
            for key, item in value.items()
        }
    return value


def streams_by_request(answer: Answer) -> Answer:
    """Responses to several requests on a stream: each request's own order is kept."""
    messages = sorted(answer["messages"], key=lambda item: item["infer_response"].get("id", ""))
    return {**answer, "messages": messages}


def without_reason(answer: Answer) -> Answer:
    """Why a load failed: the frame is kept, with the status code, and the reason is not."""

    def cut(message: str) -> str:
        return _FRAMES.sub(r"\1<reason>", _FAILED_VERSION.sub(r"\1<reason>\2", message))

    return _with_message(answer, cut)


def models_with_a_state(answer: Answer) -> Answer:
    """Of an index only the models that have been loaded, or nearly; no reasons but "unloaded"."""

    def known(entries: list[dict[str, str]]) -> list[dict[str, str]]:
        return [
            entry
            | ({} if entry.get("reason", "unloaded") == "unloaded" else {"reason": "<reason>"})
            for entry in entries
            if "state" in entry
        ]

    return _with_documents(answer, known)


def keys_in_any_order(answer: Answer) -> Answer:
    """The members of JSON objects, where the real server has the order of a hash table."""
    return _with_documents(answer, lambda value: json.loads(json.dumps(value, sort_keys=True)))


def own_metrics(answer: Answer) -> Answer:
    """Of metrics those that the cases' models make, in the order of their text, labels too."""
    lines = [_SERIES.sub(_in_order, line) for line in answer["body"].splitlines()]
    own = sorted(line for line in lines if _OWN_METRIC.match(line))
    return {**answer, "headers": {}, "body": "\n".join(own)}


def _in_order(match: re.Match[str]) -> str:
    return f"{{{','.join(sorted(_LABEL.findall(match[1])))}}}"


def names_alone(answer: Answer) -> Answer:
    """Statistics of all models: only which ones there are."""
    return _with_documents(
        answer,
        lambda document: [[entry["name"], entry["version"]] for entry in document["model_stats"]],
    )


def _with_message(answer: Answer, change: Callable[[str], str]) -> Answer:
    """Change the message of an error; answers that are none stay."""
    if "details" in answer:
        return {**answer, "details": change(answer["details"])}
    if answer.get("body", "").startswith('{"error":'):
        error = change(json.loads(answer["body"])["error"])
        return {**answer, "body": _compact({"error": error})}
    return answer


def _with_documents(answer: Answer, change: Callable[[Any], Any]) -> Answer:
    """Change a JSON body or a message; errors have neither, and stay."""
    if "message" in answer:
        return {**answer, "message": change(answer["message"])}
    if answer.get("status") != "200 OK":
        return answer
    return {**answer, "body": _compact(change(json.loads(answer["body"])))}


def _compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


#: Every normaliser by the name that cases have for it.
NORMALISERS: dict[str, Callable[[Answer], Answer]] = {
    function.__name__: function
    for function in (
        server_version,
        order_of_inputs,
        durations,
        names_alone,
        streams_by_request,
        without_reason,
        models_with_a_state,
        keys_in_any_order,
        own_metrics,
    )
}
