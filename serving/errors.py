"""What can go wrong, as classes; each message says what came, what was expected and what to do.

ServingError
├── InvalidRequest          the request itself is wrong, whatever the load
├── ModelNotFound           no model or version of this name
├── NotReady                known, but not serving (refused at load, or still loading)
├── Draining                the server is going away
├── StateMismatch           the carried state is another model version's
├── Shed                    refused because of the present load; says when to try again
│   ├── QueueFull           the bounded queue has no room
│   └── Overloaded          the deadline cannot be met behind the present backlog
├── DeadlineExceeded        the caller's time ran out before the answer
├── Cancelled               the caller left
└── EngineError             a fault of ours, with an id that the log has too
ArtifactError               a model folder that cannot be trusted or read (start-up and the exporter)
EngineUnavailable           no onnxruntime, or not the device that was asked for (start-up)
FrontUnavailable            a grpcio that the front cannot be built on (start-up)
TracingUnavailable          traces are asked for, and OpenTelemetry is not installed (start-up)

Knows no gRPC: `serving/wire/status.py` holds the one table from these classes to status codes.
"""


class ServingError(Exception):
    """Base of every error that a client may see.

    Attributes:
        reason: its stable slug for metrics and trailing metadata.
        retry_after_ms: when the same request may pass, None if that cannot be told or will not help.
    """

    reason = "internal"
    retry_after_ms: int | None = None


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


class StateMismatch(ServingError):  # noqa: N818
    """The state that the request goes on from was made by another model or version; start the stream again."""

    reason = "state_version"


class Shed(ServingError):  # noqa: N818
    """Refused because of the present load; another replica may take it at once."""

    reason = "shed"

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class QueueFull(Shed):
    """There is no room for the rows of this request: a bounded queue, or all slots for calls, are full."""

    reason = "queue_full"


class Overloaded(Shed):
    """The request's deadline cannot be met behind the work that was accepted before it."""

    reason = "overload"


class DeadlineExceeded(ServingError):  # noqa: N818
    """The deadline of the request passed before a batch could run it."""

    reason = "deadline"


class Cancelled(ServingError):  # noqa: N818
    """The client cancelled; nobody reads this error, it is counted."""

    reason = "cancelled"


class EngineError(ServingError):
    """The engine failed on this request alone, or another part of the server did.

    Attributes:
        fault: an id that the log has beside the cause, and the message for the caller.
    """

    reason = "internal"

    def __init__(self, message: str, *, fault: str) -> None:
        super().__init__(message)
        self.fault = fault


class ArtifactError(Exception):
    """A model folder is missing something, unreadable, of a newer format, or does not match its checksum."""


class EngineUnavailable(Exception):  # noqa: N818
    """No ONNX Runtime is installed, or the installed one lacks the device that was asked for."""


class FrontUnavailable(Exception):  # noqa: N818
    """The installed grpcio is built otherwise than the front needs."""


class TracingUnavailable(Exception):  # noqa: N818
    """Traces are asked for, and OpenTelemetry is not installed."""
