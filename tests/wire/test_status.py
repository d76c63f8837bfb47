"""The table from errors to gRPC codes, and what is sent beside the code."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from serving.errors import InvalidRequest, Overloaded, QueueFull, ServingError
from serving.wire.status import STATUS_CODES, abort


def leaves(error: type[ServingError]) -> Iterator[type[ServingError]]:
    """List the classes that are raised, which are those without subclasses."""
    if not error.__subclasses__():
        yield error
    for below in error.__subclasses__():
        yield from leaves(below)


def test_every_error_has_a_status_and_none_of_them_is_unknown() -> None:
    """UNKNOWN would mean that an exception of ours got out."""
    assert set(STATUS_CODES) == set(leaves(ServingError))
    assert grpc.StatusCode.UNKNOWN not in STATUS_CODES.values()


def test_reasons_are_different_words() -> None:
    reasons = [error.reason for error in STATUS_CODES]

    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Overloaded("busy", retry_after_ms=250), {"reason": "overload", "grpc-retry-pushback-ms": "250"}),
        (QueueFull("full", retry_after_ms=0), {"reason": "queue_full", "grpc-retry-pushback-ms": "0"}),
        (QueueFull("full"), {"reason": "queue_full"}),
        (InvalidRequest("wrong"), {"reason": "invalid"}),
    ],
)
def test_a_refusal_for_load_says_when_to_try_again_if_that_is_known(
    error: ServingError, expected: dict[str, str]
) -> None:
    """Over a real call, as a client sees it."""

    def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
        del request
        abort(context, error)

    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(refuse)
    server.add_registered_method_handlers("test.Refusals", {"Refuse": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Refusals/Refuse")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=60)
    finally:
        server.stop(None).wait()

    assert refused.value.code() is STATUS_CODES[type(error)]
    assert refused.value.details() == str(error)
    assert {item.key: str(item.value) for item in refused.value.trailing_metadata()} == expected
