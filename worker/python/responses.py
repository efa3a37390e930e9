"""A response as models make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...ipc.messages import Parameter
from ..peers import Reply
from . import parameters as parameter_rules
from .errors import TritonError, TritonModelException, of_status
from .tensors import Tensor, host_array, wrap

#: The flag of `InferenceResponseSender.send` that ends a request.
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1


class InferenceResponse:
    """The output tensors of one response, or the error that took their place."""

    __slots__ = ("_error", "_parameters", "_tensors")

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: Mapping[str, bool | int | str] | None = None,
    ) -> None:
        """Make a response; with an error the tensors are ignored.

        Raises TritonModelException for a tensor that is None and for parameters that are none of
        bool, int and str.
        """
        for tensor in output_tensors:
            if not isinstance(tensor, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
                _refuse_tensor(tensor)
        if error is not None and not isinstance(error, TritonError):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                "InferenceResponse expects its error to be a TritonError, got "
                f"{type(error).__name__}"
            )
        self._tensors = list(output_tensors)
        self._error = error
        self._parameters = None if parameters is None else parameter_rules.checked(parameters)

    def __repr__(self) -> str:
        return f"InferenceResponse({self._tensors!r}, error={self._error!r})"

    def output_tensors(self) -> list[Tensor]:
        """The tensors, in the order in which they are sent."""
        return self._tensors

    def has_error(self) -> bool:
        """Whether this response is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """The error, or None."""
        return self._error

    def parameters(self) -> str:
        """The parameters as JSON."""
        return parameter_rules.as_json(self._parameters or {})


def parameters_of(response: InferenceResponse) -> dict[str, Parameter]:
    """The parameters as the worker sends them."""
    return response._parameters or {}  # pyright: ignore[reportPrivateUsage]


def received_response(reply: Reply) -> InferenceResponse:
    """What another model has answered, as a model sees it."""
    error = None if reply.error is None else of_status(reply.error)
    response = InferenceResponse(
        [wrap(name, array) for name, array in reply.outputs.items()], error
    )
    response._parameters = reply.parameters  # pyright: ignore[reportPrivateUsage]
    return response


def bytes_in_place(response: InferenceResponse) -> int:
    """How many bytes of a received response lie in the memory of the model that has sent it."""
    arrays = [host_array(tensor) for tensor in response.output_tensors()]
    return sum(a.nbytes for a in arrays if not a.flags.owndata and a.dtype.kind != "O")


def detach(response: InferenceResponse) -> None:
    """Copy what lies in the memory of the model that has sent a response, and let go of it."""
    response._tensors = [  # pyright: ignore[reportPrivateUsage]
        wrap(tensor.name(), host_array(tensor).copy()) for tensor in response.output_tensors()
    ]


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """The output of this name, or None when the response has none."""
    for tensor in inference_response.output_tensors():
        if tensor.name() == name:
            return tensor
    return None


def _refuse_tensor(tensor: object) -> None:
    if tensor is None:
        raise TritonModelException("Output tensor for inference response should not be empty.")
    raise TypeError(
        f"InferenceResponse expects a list of Tensor objects, got {type(tensor).__name__} in it"
    )
