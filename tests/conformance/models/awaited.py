"""Answers from a coroutine, and does what the parameter "do" of a request says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """What the server looks for. It gets one request at a time: it does not batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Find out whether it answers by senders."""
        config = json.loads(args["model_config"])
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)

    async def execute(self, requests: list[Any]) -> Any:
        """Wait a little, then answer."""
        (request,) = requests
        deed = json.loads(request.parameters())["do"]
        await asyncio.sleep(0.01)
        if deed == "raise":
            raise ValueError("the user said so")
        if deed == "return a text":
            return "x"
        if deed == "return no responses":
            return []
        if not self._decoupled:
            return [_response("returned")]
        sender = request.get_response_sender()
        if deed == "three":
            for text in ("one", "two", "three"):
                sender.send(_response(text))
                await asyncio.sleep(0.01)
            sender.send(flags=_FINAL)
        elif deed == "raise after a response":
            sender.send(_response("one"))
            raise ValueError("the user said so")
        else:
            asyncio.get_running_loop().call_later(0.02, sender.send, _response("later"), _FINAL)
        return None


def _response(text: str) -> Any:
    array = np.array([text.encode()], np.object_)
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])
