"""What gRPC core is told about connections: how large, how many, how old, and who is alive.

Source of the names: grpc/impl/channel_arg_names.h; of the ages: gRPC proposal A9, of keepalive: A8.
"""

NEVER_MS = 2**31 - 1
KEEPALIVE_MS = 60_000
"""After so long without a byte the other end is asked whether it is there; a dead one must not hold what it holds."""
KEEPALIVE_TIMEOUT_MS = 20_000
LEAST_PING_MS = 10_000
"""A client that pings more often, more than twice, is sent away: answering pings is work without a request."""
HANDSHAKE_MS = 10_000
"""For TLS and the first words of HTTP/2; a connection that says nothing is closed after it."""
IDLE_MS = 15 * 60_000
"""A connection without a call for so long is closed; clients open another when they need it."""
STREAMS_PER_CONNECTION = 1024
METADATA_BYTES = 16 * 1024
LAST_CALLS_SECONDS = 0.2
"""For calls that are on their way when a server stops that has nothing to do: they are still refused in order."""
LAST_BYTES_SECONDS = 1.0
"""For what has been answered but not yet sent, and for streams to end in order."""

Option = tuple[str, int]


def options(*, max_message_bytes: int, max_connections: int, max_connection_age_seconds: float) -> list[Option]:
    """Return the server's channel arguments.

    Args:
        max_message_bytes: largest message in or out.
        max_connections: at a time; those beyond are closed at once.
        max_connection_age_seconds: after which a client is asked to connect anew, which it may then do elsewhere; core
            spreads it by a tenth. Calls under way are not cut. 0: never.
    """
    age_ms = int(max_connection_age_seconds * 1000) or NEVER_MS
    return [
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent half of the traffic
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.per_message_decompression", 0),  # serving/wire/inflation.py does it, with a bound
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.max_connection_age_ms", min(age_ms, NEVER_MS)),
        ("grpc.max_connection_age_grace_ms", NEVER_MS),
        ("grpc.max_connection_idle_ms", IDLE_MS),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_MS),
        ("grpc.http2.max_ping_strikes", 2),
    ]
