"""The table from errors to gRPC codes."""

import grpc

from serving.errors import ServingError
from serving.wire.status import STATUS_CODES


def test_every_error_has_a_status_and_none_of_them_is_unknown() -> None:
    """UNKNOWN would mean that an exception of ours got out."""
    assert set(STATUS_CODES) == set(ServingError.__subclasses__())
    assert grpc.StatusCode.UNKNOWN not in STATUS_CODES.values()


def test_reasons_are_different_words() -> None:
    reasons = [error.reason for error in STATUS_CODES]

    assert len(set(reasons)) == len(reasons)
