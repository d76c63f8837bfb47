"""Answers to messages: what was asked for, in raw form, text included."""

import struct

import numpy as np
import pytest

from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest
from serving.manifest import Manifest, read_manifest
from serving.wire import outputs
from serving.wire.outputs import Offer
from tests.support.artefacts import BLANK, SYMBOLS, write_ctc, write_two_inputs


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_two_inputs(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(write_ctc(tmp_path_factory.mktemp("models")))


def asking_for(*names: str) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="two", id="r1")
    for name in names:
        request.outputs.add(name=name)
    return request


def unpacked(content: bytes) -> list[str]:
    """Read BYTES in raw form: little-endian 4-byte length, then the element."""
    texts = []
    while content:
        (size,) = struct.unpack_from("<I", content)
        texts.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    return texts


def spelled(*alignments: list[int]) -> np.ndarray:
    """Make log-probabilities float32[rows, steps, classes] whose likeliest classes are these, zero-padded as answers are."""
    steps = max(map(len, alignments))
    log_probs = np.zeros((len(alignments), steps, len(SYMBOLS)), np.float32)
    for row, alignment in enumerate(alignments):
        log_probs[row, : len(alignment)] = np.log(0.01)
        log_probs[row, range(len(alignment)), alignment] = np.log(0.96)
    return log_probs


def test_an_answer_carries_id_names_shapes_and_raw_bytes(two: Manifest) -> None:
    request = asking_for("count")
    answer = {"count": np.array([3, 3]), "y": np.zeros(1)}

    response = Offer(two).encode(request, Offer(two).requested(request), answer, {})

    assert (response.model_name, response.model_version, response.id) == ("two", "1", "r1")
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [("count", "INT64", [2])]
    assert np.frombuffer(response.raw_output_contents[0], "<i8").tolist() == [3, 3]


def test_outputs_are_all_of_them_unless_named_and_must_exist(two: Manifest) -> None:
    assert [output.name for output in Offer(two).requested(asking_for())] == ["y", "count"]

    with pytest.raises(InvalidRequest, match="no output 'z'; its outputs are 'y', 'count'"):
        Offer(two).requested(asking_for("z"))


def test_decodings_are_outputs_like_the_others(ctc: Manifest) -> None:
    assert [output.name for output in Offer(ctc).requested(asking_for())] == ["log_probs", "text", "text_beam"]
    assert [output.name for output in Offer(ctc).requested(asking_for("text_beam"))] == ["text_beam"]
    assert [(outputs.wire_datatype(o), outputs.wire_shape(o)) for o in Offer(ctc).all] == [
        ("FP32", [-1, -1, len(SYMBOLS)]),
        ("BYTES", [-1]),
        ("BYTES", [-1]),
    ]
    with pytest.raises(InvalidRequest, match="no output 'words'; its outputs are 'log_probs', 'text', 'text_beam'"):
        Offer(ctc).requested(asking_for("words"))


def test_only_wanted_text_is_decoded_and_only_a_beam_takes_a_search(ctc: Manifest) -> None:
    answer = {"log_probs": spelled([1, BLANK], [3])}
    for names, decoded, search in (
        ((), {"text", "text_beam"}, True),
        (("log_probs",), set(), False),
        (("text", "log_probs"), {"text"}, False),
        (("text_beam",), {"text_beam"}, True),
    ):
        wanted = Offer(ctc).requested(asking_for(*names))
        assert outputs.decode_texts(wanted, answer, np.array([2, 1]), checkpoint=lambda: None).keys() == decoded
        assert outputs.takes_a_search(wanted) is search


@pytest.mark.parametrize("name", ["log_probs", "text"])
def test_parameters_of_an_output_are_taken_or_refused_whatever_it_is(ctc: Manifest, name: str) -> None:
    request = asking_for(name)
    request.outputs[0].parameters["binary_data"].bool_param = True
    assert len(Offer(ctc).requested(request)) == 1

    request.outputs[0].parameters["classification"].int64_param = 3
    with pytest.raises(InvalidRequest, match=f"output '{name}': parameter 'classification' is not supported"):
        Offer(ctc).requested(request)


@pytest.mark.parametrize("name", ["text", "text_beam"])
def test_text_is_length_prefixed_utf8_of_each_rows_real_steps(ctc: Manifest, name: str) -> None:
    """The padding of the shorter row is zero in every class, which would read as another 'a'."""
    request = asking_for(name)
    wanted = Offer(ctc).requested(request)
    answer = {"log_probs": spelled([3, 3, BLANK, 3, 4], [1, BLANK], [BLANK])}

    texts = outputs.decode_texts(wanted, answer, np.array([5, 2, 1]), checkpoint=lambda: None)
    response = Offer(ctc).encode(request, wanted, answer, texts)

    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [(name, "BYTES", [3])]
    assert response.raw_output_contents[0] == b"\x0b\0\0\0\xc3\xa9\xc3\xa9<space>\x01\0\0\0b\0\0\0\0"
    assert unpacked(response.raw_output_contents[0]) == ["éé<space>", "b", ""]
