"""Whom to ask, and as whom."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How the gRPC port is encrypted.

    Attributes:
        authority: file of the certificates that the server's must be signed by (PEM); None: those that gRPC brings.
        certificate: file of our own chain (PEM), for a server that asks for one.
        key: of it.
        name: that the server's certificate must have, if it is not the host's.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server.

    Attributes:
        host: a name or an address; of IPv6 without brackets.
        grpc_port: of the inference protocol.
        metrics_port: of `/metrics`, which is never encrypted.
        tls: None for a port that is not encrypted.
        token: sent with each call; None for none.
    """

    host: str
    grpc_port: int
    metrics_port: int
    tls: Tls | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where the gRPC port is, as gRPC and people write it."""
        return f"{self.bracketed}:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Where the metrics are."""
        return f"http://{self.bracketed}:{self.metrics_port}/metrics"

    @property
    def bracketed(self) -> str:
        """The host as it stands before a port."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def token_in_the_open(self) -> bool:
        """Whether others on the way can read the token."""
        try:
            at_home = ip_address(self.host).is_loopback
        except ValueError:
            at_home = self.host == "localhost"
        return self.token is not None and self.tls is None and not at_home
