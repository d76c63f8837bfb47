"""What can go wrong, as classes; each message says what came, what was expected and what to do.

ServingError
├── InvalidRequest          the request itself is wrong, whatever the load
├── ModelNotFound           no model or version of this name
├── NotReady                known, but not serving (refused at load, or still loading)
├── Draining                the server, or this version of the model, is going away
├── Unauthenticated         no token, or one that is not known
├── PermissionDenied        the token does not carry this right
├── ControlOff              the repository is not loaded and unloaded by calls on this server
├── LoadRefused             a model that was to be loaded cannot be trusted or read
├── NotOffered              a call of the protocol that this server does not have
├── StateMismatch           the carried state is another model version's
├── Shed                    refused because of the present load; says when to try again
│   ├── ClientLimit         this client has as many requests under way as one may have
│   ├── QueueFull           the bounded queue has no room
│   └── Overloaded          the deadline cannot be met behind the present backlog
├── DeadlineExceeded        the caller's time ran out before the answer
├── Cancelled               the caller left
└── EngineError             a fault of ours, with an id that the log has too
ArtifactError               a model folder that cannot be trusted or read (start-up and the exporter)
EngineUnavailable           no onnxruntime, or not the device that was asked for (start-up)
ConfigError                 a setting, or a file that one names, cannot be used (start-up)
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
    """The server has been told to stop, or the model version to leave, and takes no new work."""

    reason = "draining"


class Unauthenticated(ServingError):  # noqa: N818
    """The call brought no token, or one that is not known or has expired."""

    reason = "unauthenticated"


class PermissionDenied(ServingError):  # noqa: N818
    """The caller is known, and has no right to this."""

    reason = "permission_denied"


class ControlOff(ServingError):  # noqa: N818
    """Models were to be loaded or unloaded by a call, on a server that does not let calls decide."""

    reason = "control_off"


class LoadRefused(ServingError):  # noqa: N818
    """A model was to be loaded, and a version of it cannot be; versions that served go on serving."""

    reason = "load_refused"


class NotOffered(ServingError):  # noqa: N818
    """The protocol, or a later one, has this call, and this server does not; the message says what there is instead."""

    reason = "not_offered"


class StateMismatch(ServingError):  # noqa: N818
    """The state that the request goes on from was made by another model or version; start the stream again."""

    reason = "state_version"


class Shed(ServingError):  # noqa: N818
    """Refused because of the present load; another replica may take it at once."""

    reason = "shed"

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class ClientLimit(Shed):
    """This client has as many requests under way as one client may have; those of others are still taken."""

    reason = "client_limit"


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


def reasons(error: type[ServingError] = ServingError) -> set[str]:
    """Return the reasons of all errors that are raised: those of the classes without subclasses."""
    below = error.__subclasses__()
    return set().union(*map(reasons, below)) if below else {error.reason}


class ArtifactError(Exception):
    """A model folder is missing something, unreadable, of a newer format, or does not match its checksum."""


class EngineUnavailable(Exception):  # noqa: N818
    """No ONNX Runtime is installed, or the installed one lacks the device that was asked for."""


class ConfigError(Exception):
    """A setting cannot be used: it contradicts another, or a file that it names is not what it must be."""


class FrontUnavailable(Exception):  # noqa: N818
    """The installed grpcio is built otherwise than the front needs."""


class TracingUnavailable(Exception):  # noqa: N818
    """Traces are asked for, and OpenTelemetry is not installed."""
