"""Why a server does not answer. gRPC says that it failed to connect, whatever is wrong, so the port is looked at."""

import socket
import ssl

from serving.status.target import Target, Tls

CLIENT_BEGINS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
"""How a client of HTTP/2 begins; what follows shows whether its certificate was taken."""


def why(target: Target, details: str, *, seconds: float) -> str:
    """Return what is wrong and what to do.

    Args:
        target: that a call did not reach.
        details: what gRPC said of it.
        seconds: that each try may take.
    """
    try:
        speaks_tls = _speaks_tls(target, seconds)
    except OSError as error:
        return _unreached(target, error, seconds)
    where = target.address
    if target.tls is not None and speaks_tls:
        return f"{where} {_tls_fault(target, target.tls, seconds) or f'did not answer ({details}); try again'}"
    if target.tls is not None:
        return f"{where} does not speak TLS; leave out --tls, --tls-ca and --tls-certificate, or check the port"
    if speaks_tls:
        return f"{where} is encrypted; give --tls, or --tls-ca FILE with the authority of its certificate"
    return (
        f"{where} takes connections, but answers no call ({details}); is this the gRPC port (8001 by default), not "
        "that of the metrics? A server that is stopping does so as well"
    )


def _unreached(target: Target, error: OSError, seconds: float) -> str:
    where = target.address
    match error:
        case socket.gaierror():
            return f"there is no address for the host '{target.host}'; check its name"
        case ConnectionRefusedError():
            return (
                f"nothing listens on {where}; is lstm-serve running there, and is this its --grpc-port? It listens for "
                "its own machine only unless it was started with --host 0.0.0.0, and opens the port once its models "
                "are loaded"
            )
        case TimeoutError():
            return (
                f"{where} does not answer within {seconds:g} s; check the address, and whether a firewall lets this "
                "port through"
            )
    return f"{where} cannot be reached ({(error.strerror or str(error)).lower()}); check host and port"


def _speaks_tls(target: Target, seconds: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: the question is whether anybody there speaks TLS
    with socket.create_connection((target.host, target.grpc_port), timeout=seconds) as connection:
        try:
            context.wrap_socket(connection).close()
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        except OSError:
            return False
    return True


def _tls_fault(target: Target, tls: Tls, seconds: float) -> str:
    """Return what the other side, or this one, has against the other's certificate; empty if nothing."""
    context = ssl.create_default_context(cafile=tls.authority)
    context.set_alpn_protocols(["h2"])
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    try:
        with (
            socket.create_connection((target.host, target.grpc_port), timeout=seconds) as connection,
            context.wrap_socket(connection, server_hostname=tls.name or target.host) as wrapped,
        ):
            wrapped.sendall(CLIENT_BEGINS)
            if wrapped.recv(1):  # with TLS 1.3, a server that misses a certificate says or shows so no sooner
                return ""
    except ssl.SSLCertVerificationError as error:
        return (
            f"has a certificate that is not accepted: {error.verify_message}; name its authority with --tls-ca, or the "
            "name that stands in it with --tls-name"
        )
    except TimeoutError:
        return ""
    except OSError:
        pass  # it is told by an alert or by an end without one
    if tls.certificate is None:
        return (
            "closes the connection once it is encrypted, as by a server that asks clients for a certificate (mTLS); "
            "give --tls-certificate and --tls-key"
        )
    return (
        f"does not accept the certificate in {tls.certificate}; it must be signed by the authority that the server has "
        "as --tls-client-ca, and not have expired"
    )
