"""What a caller may do. Decided before it is looked up whether a model exists, so that names do not leak."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from serving.errors import PermissionDenied, Unauthenticated

ALL = "*"
AUTHORIZATION = "authorization"
BEARER = "bearer "
LOOPBACK = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
"""How addresses of this machine begin, as gRPC writes them."""
OPEN = frozenset({"ServerLive", "ServerReady", "Check"})
"""What probes call; the last is of the health service. To watch is open as well."""
OF_THE_SERVER = frozenset({"ServerMetadata"})
OF_ONE_MODEL = frozenset({"ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"})
OF_ALL_MODELS = frozenset({"RepositoryIndex"})
NOT_ADMINISTRATION = OPEN | OF_THE_SERVER | OF_ONE_MODEL | OF_ALL_MODELS
"""Whatever is not listed is for administrators, so that a new call is not open by mistake."""
Pairs = Iterable[tuple[str, str | bytes]]
"""Of a call's metadata."""


@dataclass(frozen=True, slots=True)
class Client:
    """Someone who calls.

    Attributes:
        name: as the tokens' file has it.
        models: whose requests it may send; `*` stands for all.
        admin: whether it may load and unload models, which does not let it send requests.
    """

    name: str
    models: frozenset[str]
    admin: bool

    @property
    def may_use_all(self) -> bool:
        """Whether it may use every model."""
        return ALL in self.models

    def check_model(self, model: str) -> None:
        """Let it use a model, or refuse.

        Raises:
            PermissionDenied: it has no right to the model, whether there is one of this name or not.
        """
        if model not in self.models and not self.may_use_all:
            raise PermissionDenied(f"client '{self.name}' has no right to model '{model}'")


class Known(NamedTuple):
    """A token that is known."""

    sha256: bytes
    client: Client
    ends_at: int | None
    """Seconds since the epoch, from which on it is not accepted; None: always."""


class Verifier(Protocol):
    """What knows tokens; `serving.wire.access.tokens.Tokens`."""

    def client(self, token: str) -> Client:
        """Return whose token it is; raises Unauthenticated."""

    def table(self) -> Sequence[Known]:
        """Return all tokens that were known last."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after each change."""

    def look(self) -> None:
        """Find out whether there has been a change."""


class Access:
    """The rule for every call. Without tokens anyone may infer, and only this machine may administrate."""

    def __init__(self, tokens: Verifier | None) -> None:
        """Take what knows tokens; None: callers are not asked for any."""
        self._tokens = tokens

    def client(self, metadata: Pairs) -> Client | None:
        """Return who calls, None where nobody is asked.

        Raises:
            Unauthenticated: no token, or one that is not known.
        """
        if self._tokens is None:
            return None
        for key, value in metadata:
            if key == AUTHORIZATION:
                text = value if isinstance(value, str) else ""
                if text[: len(BEARER)].lower() != BEARER:
                    break
                return self._tokens.client(text[len(BEARER) :].strip())
        raise Unauthenticated(f"send a token as metadata: {AUTHORIZATION}: Bearer TOKEN")

    @property
    def tokens(self) -> Verifier | None:
        """What knows tokens, for who compares on its own; None where nobody is asked."""
        return self._tokens

    def check(self, method: str, message: Any, metadata: Pairs, peer: str) -> None:  # noqa: ANN401  any of the contract
        """Let a call through that infers nothing, or refuse it.

        Args:
            method: its name.
            message: what it brought.
            metadata: of the call.
            peer: address of the caller, as gRPC writes it.

        Raises:
            Unauthenticated: no token, or one that is not known.
            PermissionDenied: it has no right to call this.
        """
        if method in OPEN:
            return
        client = self.client(metadata)
        if client is None:
            if method not in NOT_ADMINISTRATION and not peer.startswith(LOOPBACK):
                raise PermissionDenied(
                    f"{method} is for administrators: without --tokens only from the server's own machine"
                )
        elif method not in NOT_ADMINISTRATION:
            if not client.admin:
                raise PermissionDenied(f"client '{client.name}' is no administrator, so it may not call {method}")
        elif not client.admin and (method in OF_ALL_MODELS or (method in OF_ONE_MODEL and not message.name)):
            client.check_model(ALL)
        elif not client.admin and method in OF_ONE_MODEL:
            client.check_model(message.name)
