"""What can go wrong, as classes; each message says what came, what was expected and what to do.

ServingError
├── InvalidRequest          the request itself is wrong, whatever the load
├── ModelNotFound           no model or version of this name
├── NotReady                known, but not serving (refused at load, or still loading)
├── Draining                the server is going away
├── QueueFull               refused because of the present load
├── DeadlineExceeded        the caller's time ran out before the answer
├── Cancelled               the caller left
└── EngineError             a fault of ours, with an id that the log has too
ArtifactError               a model folder that cannot be trusted or read (start-up and the exporter)
EngineUnavailable           no onnxruntime, or not the device that was asked for (start-up)

Knows no gRPC: `serving/wire/status.py` holds the one table from these classes to status codes.
"""


class ServingError(Exception):
    """Base of every error that a client may see; `reason` is its stable slug for metrics and trailing metadata."""

    reason = "internal"


class InvalidRequest(ServingError):  # noqa: N818  named for what the client sees
    """The request cannot be served under any load: a name, dtype, shape, size or value is wrong."""

    reason = "invalid"


class ModelNotFound(ServingError):  # noqa: N818
    """No model, or no version of the model, has this name."""

    reason = "not_found"


class NotReady(ServingError):  # noqa: N818
    """The model version is known but does not serve."""

    reason = "not_ready"


class Draining(ServingError):  # noqa: N818
    """The server has been told to stop and takes no new work."""

    reason = "draining"


class QueueFull(ServingError):  # noqa: N818
    """The bounded queue of the model has no room for the rows of this request."""

    reason = "queue_full"


class DeadlineExceeded(ServingError):  # noqa: N818
    """The deadline of the request passed before a batch could run it."""

    reason = "deadline"


class Cancelled(ServingError):  # noqa: N818
    """The client cancelled; nobody reads this error, it is counted."""

    reason = "cancelled"


class EngineError(ServingError):
    """The engine failed on this request alone; the id is in the log beside the cause."""

    reason = "internal"


class ArtifactError(Exception):
    """A model folder is missing something, unreadable, of a newer format, or does not match its checksum."""


class EngineUnavailable(Exception):  # noqa: N818
    """No ONNX Runtime is installed, or the installed one lacks the device that was asked for."""
