"""The table from errors to gRPC codes, and what is sent beside the code."""

from collections.abc import Iterator

import grpc
import pytest

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest, Overloaded, QueueFull, ServingError
from serving.manifest import Manifest, read_manifest
from serving.wire.status import STATUS_CODES
from tests.support.artefacts import FEATURES, write_lstm
from tests.wire.desk import SECONDS, Desk

GOOD = oip.ModelInferRequest(
    model_name="lstm",
    inputs=[{"name": "x", "datatype": "FP32", "shape": (1, 1, FEATURES)}],
    raw_input_contents=[bytes(4 * FEATURES)],
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models")))


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
    manifest: Manifest, error: ServingError, expected: dict[str, str]
) -> None:
    """Over a real call, as a client sees it."""

    def refuse() -> None:
        raise error

    with Desk(manifest) as desk:
        desk.during_put = refuse
        with pytest.raises(grpc.RpcError) as refused:
            desk.stub.ModelInfer(GOOD, timeout=SECONDS)

    assert refused.value.code() is STATUS_CODES[type(error)]
    assert refused.value.details() == str(error)
    assert {item.key: str(item.value) for item in refused.value.trailing_metadata()} == expected
