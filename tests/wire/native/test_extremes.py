"""What clients and files may bring that no model has use for."""

import numpy as np
import pytest

from serving._proto import open_inference_pb2 as oip
from serving.batching import Span
from serving.manifest import Tensor
from serving.tensors import Layout
from serving.wire.native.inbox import NativeInbox
from serving.wire.native.library import taken
from serving.wire.native.versions import version_of
from tests.support.front import NO_MEMORY, front_open, needs_front
from tests.wire.native.versions import VERSIONS, Version, version

pytestmark = needs_front
NEVER_NS = 2**63 - 1
WIDE = 2**20
WIDE_OUTPUT = Tensor(name="wide", datatype="FP32", shape=("batch", "time", WIDE))


def request(*outputs: str) -> bytes:
    x = np.zeros((2, 10, 3), "<f4")
    message = oip.ModelInferRequest(model_name="lstm", raw_input_contents=[x.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    for name in outputs:
        message.outputs.add(name=name)
    return message.SerializeToString()


def ended(version: Version, content: bytes) -> bytes:
    """Return what the library answers, or fails with, once the engine has begun; the engine's own part is left out."""
    with front_open() as (library, front):
        described = version_of(version.manifest, version.policy).SerializeToString()
        inbox = NativeInbox(library, front, library.inbox_open(front, described, len(described)), max_rows=4)
        offered = library.offer(inbox.handle, content, len(content), NEVER_NS, 0)
        inbox.take(1)
        layout = Layout(version.manifest)
        layout.keeper = inbox
        layout.pack([Span(1, 0, 0, 10), Span(1, 1, 0, 10)])
        inbox.answer([1])
        answer = taken(library.collect(offered))
        del layout, inbox  # it goes before its front
    return answer


def test_an_answer_larger_than_a_message_may_be_is_not_begun() -> None:
    """A client may ask for an output as often as it likes, in a request that is small."""
    wide = version("lstm", outputs=(WIDE_OUTPUT,))
    of_one = 2 * 10 * WIDE * 4

    assert len(ended(wide, request("wide"))) > of_one
    assert ended(wide, request(*["wide"] * (2**31 // of_one + 1))) == NO_MEMORY.encode()


def test_bytes_that_are_no_message_write_no_lines(capfd: pytest.CaptureFixture[str]) -> None:
    """The parser's own words would stand among the log's lines, as many as a client likes."""
    with front_open() as (library, front):
        described = version_of(VERSIONS[0].manifest, VERSIONS[0].policy).SerializeToString()
        handle = library.inbox_open(front, described, len(described))
        for content in (b"\x0a\x01\xff", request().replace(b"lstm", b"\xff\xfe\xfd\xfc")):
            assert library.offer(handle, content, len(content), NEVER_NS, 0) is None
        library.inbox_close(handle)

    assert capfd.readouterr() == ("", "")
