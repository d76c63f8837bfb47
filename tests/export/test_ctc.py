"""Text decodings of an export: from a file of symbols to what the manifest and the report say."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from export.__main__ import main
from export.ctc import check_logarithms, decodings, read_symbols
from export.errors import ExportError
from export.model import OnnxModel
from export.spec import Ctc, make_spec, parse_ctc
from serving.manifest import Tensor, read_manifest

MODULE = """
import torch
from torch import nn

class Speech(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 16, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        return torch.log_softmax(self.fc(self.lstm(x)[0]), dim=-1)

class Probabilities(Speech):
    def forward(self, x):
        return super().forward(x).exp()
"""
ARGUMENTS = ["--weights", "w.pt", "--input", "x:float32[batch,time,3]", "--name", "t", "--output-names", "log_probs"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module, weights, and four symbols whose blank is the last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "speech_on_disk", raising=False)
    (tmp_path / "speech_on_disk.py").write_text(MODULE)
    (tmp_path / "symbols.txt").write_text("a\né\n<space>\n\n", encoding="utf-8")
    torch.manual_seed(0)
    lstm, fc = torch.nn.LSTM(3, 16, batch_first=True, bidirectional=True), torch.nn.Linear(32, 4)
    state = {f"lstm.{key}": value for key, value in lstm.state_dict().items()}
    torch.save(state | {f"fc.{key}": value for key, value in fc.state_dict().items()}, "w.pt")
    return tmp_path


def written(folder: Path, content: str, **options: int) -> Ctc:
    path = folder / "symbols.txt"
    path.write_bytes(content.encode())
    return Ctc(output="log_probs", symbols=path, **options)


def model_of(*outputs: Tensor, inputs: tuple[str, ...] = ("x",)) -> OnnxModel:
    sequences = tuple(Tensor(name=name, datatype="FP32", shape=("batch", "time", 3)) for name in inputs)
    return OnnxModel(content=b"", inputs=sequences, outputs=outputs, state=None, recurrent_nodes=())


def output(name: str = "log_probs", *axes: int | str) -> Tensor:
    return Tensor(name=name, datatype="FP32", shape=("batch", *(axes or ("time", 4))))


def test_export_and_quantize_write_decodings_that_read_back_and_are_reported(folder: Path) -> None:
    flags = ["--ctc", "log_probs=symbols.txt", "--ctc-blank", "3", "--ctc-beam-width", "7"]
    assert main(["torch", "speech_on_disk:Speech", *ARGUMENTS, *flags]) == 0
    assert main(["quantize", "models/t/1"]) == 0

    for version in ("1", "2"):
        directory = folder / "models" / "t" / version
        manifest = read_manifest(directory)
        assert [(d.name, d.method) for d in manifest.decodings] == [("text", "greedy"), ("text_beam", "beam")]
        for decoding in manifest.decodings:
            assert (decoding.source, decoding.blank, decoding.beam_width) == ("log_probs", 3, 7)
            assert decoding.symbols == ("a", "é", "<space>", "")
        report = (directory / "report.md").read_text(encoding="utf-8")
        assert "| output | text | BYTES | [batch] | UTF-8 text of each row" in report
        assert "`log_probs`: prefix beam search, width 7" in report
        assert 'print([text.decode() for text in answer.as_numpy("text_beam")])' in report


def test_probabilities_in_place_of_their_logarithms_are_refused_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--ctc", "log_probs=symbols.txt", "--ctc-blank", "3"]

    assert main(["torch", "speech_on_disk:Probabilities", *ARGUMENTS, *flags]) == 1

    assert "holds probabilities (each step sums to 1)" in capsys.readouterr().err
    assert not (folder / "models").exists()


@pytest.mark.usefixtures("folder")
def test_a_bad_file_of_symbols_ends_the_command_before_the_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["torch", "no_such_module:Nothing", *ARGUMENTS, "--ctc", "log_probs=nowhere.txt"]) == 1

    assert "nowhere.txt: cannot be read (No such file" in capsys.readouterr().err


def test_flags_win_over_the_files_section_key_by_key(folder: Path) -> None:
    (folder / "spec.yaml").write_text(
        "factory: a:B\nweights: w.pt\nname: t\ninputs: {x: 'float32[batch,time,3]'}\n"
        "ctc: {output: log_probs, symbols: symbols.txt, blank: 3}\n"
    )

    from_file = make_spec(folder / "spec.yaml", {"ctc": None}).ctc
    both = make_spec(folder / "spec.yaml", {"ctc": parse_ctc("scores=other.txt") | {"beam_width": 4}}).ctc

    assert from_file == Ctc(output="log_probs", symbols=Path("symbols.txt"), blank=3, beam_width=16)
    assert both == Ctc(output="scores", symbols=Path("other.txt"), blank=3, beam_width=4)


@pytest.mark.parametrize("text", ["log_probs", "=symbols.txt", "log_probs=", ""])
def test_the_flag_has_one_form(text: str) -> None:
    with pytest.raises(ExportError, match="is not of the form OUTPUT=SYMBOLS_FILE"):
        parse_ctc(text)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("-\na\nb\n", ("-", "a", "b")),
        ("-\na\nb", ("-", "a", "b")),
        ("\r\na\r\n \r\n", ("", "a", " ")),
        ("\ufeff_\n'\n\u2028\n", ("_", "'", "\u2028")),
    ],
)
def test_a_file_of_symbols_reads_as_its_lines_and_keeps_spaces(
    tmp_path: Path, content: str, expected: tuple[str, ...]
) -> None:
    """Whatever the editor did with line ends and a byte order mark; a Unicode line separator is a symbol like others."""
    assert read_symbols(written(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("content", "blank", "text"),
    [
        ("", 0, "has 1 lines, and the blank is class 0"),
        ("a\nb\n", 2, "has 2 lines, and the blank is class 2"),
        ("-\na\n\nb\n", 0, "line 3 is empty"),
        ("\na\n", 1, "line 1 is empty; .*only the blank's line, 2, may"),
        ("-\na\n\n", 0, "line 3 is empty"),
    ],
)
def test_a_file_that_names_no_classes_is_refused(tmp_path: Path, content: str, blank: int, text: str) -> None:
    with pytest.raises(ExportError, match=text):
        read_symbols(written(tmp_path, content, blank=blank))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("-\né\n".encode("latin-1"))

    with pytest.raises(ExportError, match="not UTF-8 text"):
        read_symbols(Ctc(output="log_probs", symbols=tmp_path / "latin.txt"))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (model_of(output("scores")), r"no output 'log_probs'; its outputs are \['scores'\]"),
        (model_of(output("log_probs", 4)), r"is FP32 \['batch', 4\]; expected log-probabilities"),
        (model_of(output("log_probs", 7, 4)), r"is FP32 \['batch', 7, 4\]; expected log-probabilities"),
        (model_of(Tensor(name="log_probs", datatype="INT64", shape=("batch", "time", 4))), "is INT64"),
        (model_of(output("log_probs", "time", 5)), "has 5 classes, symbols.txt has 4 lines"),
        (model_of(output(), output("text")), r"the model has its own \['text'\]"),
        (model_of(output(), inputs=("text_beam",)), r"the model has its own \['text_beam'\]"),
    ],
)
def test_an_output_that_cannot_be_decoded_is_refused_with_what_it_is(model: OnnxModel, text: str) -> None:
    ctc = Ctc(output="log_probs", symbols=Path("symbols.txt"))

    with pytest.raises(ExportError, match=text):
        decodings(ctc, ("-", "a", "b", "c"), model)


def test_scores_and_log_probabilities_pass_where_probabilities_do_not() -> None:
    ctc = Ctc(output="y", symbols=Path("symbols.txt"))
    scores = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    check_logarithms(ctc, [{"y": scores}, {"y": np.log(probabilities)}])
    with pytest.raises(ExportError, match="log_softmax instead of softmax"):
        check_logarithms(ctc, [{"y": probabilities}, {"y": probabilities[:1]}])
