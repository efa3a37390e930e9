"""Tries what a response sender allows and refuses, and tells what it was told, at the next request.

What a request wants is its parameter "do". The model is decoupled or not, as configured.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """What the server looks for. It gets one request at a time: it does not batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Nothing has been tried yet."""
        config = json.loads(args["model_config"])
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self._told: list[str] = []

    def execute(self, requests: list[Any]) -> Any:
        """Do what the request says; it is answered through its sender."""
        (request,) = requests
        deed = json.loads(request.parameters())["do"]
        sender = request.get_response_sender()
        if deed == "tell":
            told, self._told = self._told, []
            sender.send(_response(*told), flags=_FINAL)
        elif deed == "answer from a thread":
            threading.Thread(target=sender.send, args=(_response("later"), _FINAL)).start()
        elif deed == "send and return a response":
            sender.send(_response("sent"), flags=_FINAL)
            return [_response("returned")]
        else:
            getattr(self, "_" + deed.replace(" ", "_"))(request, sender)
        return None if self._decoupled else [None]

    def _try(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            # Triton's exceptions come with a traceback.
            message = str(error).partition("\n")[0]
            self._told.append(f"{what}: {type(error).__name__}: {message}")
        else:
            self._told.append(f"{what}: done")

    def _unknown_flags(self, request: Any, sender: Any) -> None:
        for flags in (2, 3, 4):
            self._try(f"flags {flags}", partial(sender.send, _response("x"), flags))
        sender.send(_response("at last"), flags=_FINAL)

    def _nothing_to_send(self, request: Any, sender: Any) -> None:
        self._try("nothing", sender.send)
        self._try("None", lambda: sender.send(None))
        self._try("flags 0", lambda: sender.send(flags=0))
        sender.send(_response("at last"), flags=_FINAL)

    def _send_after_the_end(self, request: Any, sender: Any) -> None:
        sender.send(_response("the end"), flags=_FINAL)
        self._try("a response", lambda: sender.send(_response("x")))
        self._try("a last response", lambda: sender.send(_response("x"), flags=_FINAL))
        self._try("the end", lambda: sender.send(flags=_FINAL))

    def _use_another_sender(self, request: Any, sender: Any) -> None:
        other = request.get_response_sender()
        sender.send(_response("the end"), flags=_FINAL)
        self._try("a response", lambda: other.send(_response("x"), flags=_FINAL))

    def _send_twice(self, request: Any, sender: Any) -> None:
        sender.send(_response("first"))
        self._try("second", lambda: sender.send(_response("second")))
        self._try("second and the end", lambda: sender.send(_response("x"), flags=_FINAL))
        self._try("the end", lambda: sender.send(flags=_FINAL))

    def _end_at_once(self, request: Any, sender: Any) -> None:
        self._try("the end", lambda: sender.send(flags=_FINAL))
        self._try("a response", lambda: sender.send(_response("x"), flags=_FINAL))

    def _end_with_an_error(self, request: Any, sender: Any) -> None:
        error = pb_utils.TritonError("the sender said so", pb_utils.TritonError.NOT_FOUND)
        sender.send(pb_utils.InferenceResponse(error=error), flags=_FINAL)

    def _send_an_error_first(self, request: Any, sender: Any) -> None:
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("the sender said so")))
        self._try("the end", lambda: sender.send(flags=_FINAL))

    def _raise_after_sending(self, request: Any, sender: Any) -> None:
        sender.send(_response("sent"), flags=_FINAL)
        raise ValueError("the user said so")


def _response(*texts: str) -> Any:
    array = np.array([text.encode() for text in texts], np.object_)
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])
