"""The parameters of a request: Triton's `timeout` and `priority`, and the refusal of those that ask for something else.

Source of names and meanings: Triton's parameters, sequence and classification extensions.
"""

from collections.abc import Mapping

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest

MICROSECOND_NS = 1_000
LARGEST_TIMEOUT_US = 2**53
LOWEST_PRIORITY = 9
SERVER_HELD_STATE = ("sequence_id", "sequence_start", "sequence_end")
UNSUPPORTED_TENSOR_PARAMETERS = ("shared_memory_region", "classification")


def check_parameters(message: oip.ModelInferRequest) -> None:
    """Refuse what would need a server that remembers its clients.

    Raises:
        InvalidRequest: one of Triton's sequence parameters is set.
    """
    for name in SERVER_HELD_STATE:
        if name in message.parameters and _is_set(message.parameters[name]):
            raise InvalidRequest(
                f"parameter '{name}' asks the server to keep a sequence's state between requests; this server keeps "
                "none, so that any replica can answer: send whole sequences, or for a stepwise model the 'state' that "
                "came with the last answer"
            )


def refuse_parameters(side: str, name: str, parameters: Mapping[str, oip.InferParameter]) -> None:
    """Refuse the parameters of a tensor that would change its meaning; others (`binary_data`...) change nothing.

    Raises:
        InvalidRequest: one of them is set.
    """
    for unsupported in UNSUPPORTED_TENSOR_PARAMETERS:
        if unsupported in parameters:
            raise InvalidRequest(f"{side} '{name}': parameter '{unsupported}' is not supported; send tensors as bytes")


def timeout_ns(message: oip.ModelInferRequest) -> int | None:
    """Return the parameter `timeout` (microseconds) in nanoseconds, None without one; Triton: 0 means none.

    Raises:
        InvalidRequest: not a whole number of microseconds that could be a timeout.
    """
    value = _whole_number(message, "timeout", LARGEST_TIMEOUT_US, "number of microseconds")
    return value * MICROSECOND_NS if value else None


def priority(message: oip.ModelInferRequest) -> int | None:
    """Return the parameter `priority`, 1 (first) to 9, None without one; Triton: 0 means the model's default.

    Raises:
        InvalidRequest: not such a number.
    """
    return _whole_number(message, "priority", LOWEST_PRIORITY, "number, 1 the most urgent") or None


def _whole_number(message: oip.ModelInferRequest, name: str, largest: int, what: str) -> int | None:
    if name not in message.parameters:
        return None
    parameter = message.parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in ("int64_param", "uint64_param") else None
    if value is None or not 0 <= value <= largest:
        raise InvalidRequest(
            f"parameter '{name}' must be a whole {what} (int64 or uint64), from 0 (as without it) to {largest}"
        )
    return int(value)


def _is_set(parameter: oip.InferParameter) -> bool:
    kind = parameter.WhichOneof("parameter_choice")
    return kind is not None and bool(getattr(parameter, kind))
