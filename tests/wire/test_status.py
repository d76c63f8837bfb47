"""The table from errors to gRPC codes."""

from collections.abc import Iterator

import grpc

from serving.errors import ServingError
from serving.wire.status import STATUS_CODES


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
