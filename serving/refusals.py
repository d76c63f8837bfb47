"""What a caller is told when the batcher refuses its request."""

from serving.batching import Batcher, Refusal, Refused
from serving.clock import NANOSECONDS_PER_SECOND
from serving.errors import DeadlineExceeded, Draining, Overloaded, QueueFull, ServingError

MILLISECOND_NS = NANOSECONDS_PER_SECOND // 1000


def error_of(refused: Refused, model: str, batcher: Batcher) -> ServingError:
    """Return the error for a refusal, with the figures that led to it and what to do.

    Args:
        refused: what the batcher said.
        model: its name.
        batcher: that refused, unchanged since.
    """
    retry_ms = None if refused.retry_ns is None else -(-refused.retry_ns // MILLISECOND_NS)
    match refused.why:
        case Refusal.QUEUE_FULL:
            return QueueFull(
                f"the queue of model '{model}' is full ({batcher.waiting_rows} rows wait); retry later, or raise "
                "max_queue_rows in its model.yaml",
                retry_after_ms=retry_ms,
            )
        case Refusal.OVERLOAD:
            return Overloaded(overload(model, batcher, retry_ms), retry_after_ms=retry_ms)
        case Refusal.UNREACHABLE:
            predicted_ms = (refused.predicted_ns or 0) / MILLISECOND_NS
            return DeadlineExceeded(
                f"the deadline cannot be met: model '{model}' takes about {predicted_ms:.1f} ms for a sequence of this "
                "length on an idle server"
            )
        case Refusal.DEADLINE_PASSED:
            return DeadlineExceeded("the deadline had passed when the request arrived")
        case Refusal.DRAINING:
            return Draining("the server is stopping; retry on another replica")


def overload(model: str, batcher: Batcher, retry_ms: object) -> str:
    """Return what is told to a request that comes while there is too much work for it."""
    return (
        f"model '{model}' has {batcher.backlog_seconds:.3f} seconds of work already, too much to meet this "
        f"deadline, or with it one that was accepted; retry after {retry_ms} ms, or on another replica"
    )
