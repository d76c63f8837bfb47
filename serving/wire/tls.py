"""TLS of the gRPC port: certificates from files, which are read again when they change.

Every handshake asks for the present ones, so a renewed certificate is used by the next connection, and those that are
open go on. Kubernetes renews mounted secrets by turning a link, which a stamp of what the path leads to shows.
"""

import logging
import ssl
import threading
from pathlib import Path
from typing import NamedTuple

import grpc

from serving.errors import ConfigError

log = logging.getLogger(__name__)
Stamp = tuple[tuple[int, int, int], ...]
MISSING = (0, 0, 0)
"""Stamp of a file that is not there: as any other it is looked at, and complained of, once."""


class Pems(NamedTuple):
    """A certificate's key, its chain, and the authority of clients if there is one."""

    key: bytes
    chain: bytes
    authority: bytes | None


class Certificates:
    """A key, its certificate chain, and the authority of clients if they must have a certificate too."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Read the files (PEM).

        Args:
            certificate: of the server, with those between it and its authority.
            key: of the certificate, not encrypted.
            client_ca: whoever it has signed may connect, and nobody else; None lets anybody.

        Raises:
            ConfigError: a file cannot be read, is no PEM, or the key is another certificate's.
        """
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self.files = [certificate, key] if client_ca is None else [certificate, key, client_ca]
        """A change of which is a reason to call `renewed`."""
        self.asks_clients = client_ca is not None
        """Whether clients must show a certificate too."""
        self._lock = threading.Lock()
        self._stamp = self._look()
        self.present = self._read()
        """Those that were read last."""

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a port of grpcio's is opened with."""

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            present = self.renewed()
            return None if present is None else _configuration(present)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(self.present),
            renewed,  # type: ignore[arg-type]  # the stubs leave out that None stands for no change
            require_client_authentication=self.asks_clients,
        )

    def renewed(self) -> Pems | None:
        """Return the certificates if they have changed; None, and those before stay, if not or if they are wrong."""
        with self._lock:
            try:
                stamp = self._look()
                if stamp == self._stamp:
                    return None
                self._stamp = stamp
                self.present = self._read()
                if self._look() != stamp:  # half of them: the next handshake looks again
                    self._stamp = ()
                    return None
            except ConfigError as error:
                log.error("%s; the certificate that was read before stays in use", error)  # noqa: TRY400
                return None
            log.info("read the certificate in %s again", self._certificate)
            return self.present

    def _look(self) -> Stamp:
        """Return what changes when a file does, by whatever links the path leads to it."""
        stamps = []
        for path in self.files:
            try:
                found = path.stat()
            except OSError:
                stamps.append(MISSING)
            else:
                stamps.append((found.st_size, found.st_mtime_ns, found.st_ino))
        return tuple(stamps)

    def _read(self) -> Pems:
        self._check()
        authority = None if self._client_ca is None else _content(self._client_ca)
        return Pems(_content(self._key), _content(self._certificate), authority)

    def _check(self) -> None:
        """Have the `ssl` module say what is wrong: gRPC core refuses a bad pair without a reason."""
        for path in self.files:
            _content(path)  # says which one cannot be read
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._certificate, self._key, password=lambda: "")
        except OSError as error:  # SSLError is one
            raise ConfigError(
                f"{self._certificate} and {self._key}: no certificate with its own, unencrypted key in PEM ({error})"
            ) from error
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except OSError as error:
                raise ConfigError(f"{self._client_ca}: no certificates of an authority in PEM ({error})") from error


def _configuration(present: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(present.key, present.chain)], present.authority)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
