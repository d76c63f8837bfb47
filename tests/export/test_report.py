"""What a person reads: the report with its plot, and the same facts from `inspect`."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from export.__main__ import main
from export.job import Checks
from export.proving.metric import load_metric
from export.reporting.markdown import number, table
from export.smaller.export_half import export_half
from export.smaller.export_int8 import export_int8
from serving.manifest import Manifest, read_manifest
from tests.export.support import quiet_job
from tests.support.artefacts import write_ctc, write_lstm


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An INT8 version with a metric and a gate, and an FP16 version."""
    fp32 = write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=True)
    job, _ = quiet_job()
    metric = load_metric("tests.export.judges:accuracy", lower_is_better=False)
    labelled = replace(job, data="tests.export.judges:labelled")
    int8 = export_int8(fp32, labelled, Checks(metric=metric, gate={"rms": 0.25, "cosine": 0.5}))
    return int8, export_half(fp32, job)


def _section(report: str, title: str) -> str:
    return report.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def _proofs(manifest: Manifest) -> dict[str, dict[str, float | int | str]]:
    return {proof.name: proof.measured for proof in manifest.proofs}


def test_every_proof_and_warning_of_the_manifest_is_in_the_report(versions: tuple[Path, Path]) -> None:
    for directory in versions:
        manifest, report = read_manifest(directory), (directory / "report.md").read_text()

        assert manifest.warnings
        assert all(f"> **Warning:** {warning}" in report for warning in manifest.warnings)
        for proof in manifest.proofs:
            [line] = [line for line in _section(report, "Proofs").splitlines() if line.startswith(f"| {proof.name} |")]
            assert all(f"{key} {number(value)}" in line for key, value in proof.measured.items())
            assert ("passed" if proof.limit else "reported") in line


def test_the_int8_report_has_sections_for_time_saturation_metric_and_gate(versions: tuple[Path, Path]) -> None:
    report, proofs = (versions[0] / "report.md").read_text(), _proofs(read_manifest(versions[0]))

    latency = proofs["latency"]
    assert str(latency["cpu"]) in _section(report, "INT8")
    assert f"| 32 | {float(latency['batch_32_fp32_seconds']) * 1e3:.3f} |" in _section(report, "INT8")
    assert "| LSTM | 1 of 1 |" in _section(report, "INT8")
    assert "0.00% of 64 pairs can leave -32768 to 32767" in _section(report, "Saturation")
    assert f"FP32 {number(proofs['metric']['fp32'])}, INT8" in _section(report, "Metric")
    assert "All limits were kept." in _section(report, "Gate")
    assert "| cosine |" in _section(report, "Gate")
    assert "cosine >= 0.5" in _section(report, "Proofs")
    assert "rms <= 0.25" in _section(report, "Proofs")


@pytest.mark.parametrize(("index", "panels"), [(0, 4), (1, 3)])
def test_the_plot_has_a_panel_for_each_view(versions: tuple[Path, Path], index: int, panels: int) -> None:
    content = (versions[index] / "report.png").read_bytes()

    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(b"\x89PNG")
    assert (width, height) == (990, 792)  # two columns and two rows of 4.5 by 3.6 inches at 110 dots
    assert len(content) > 10_000 * panels


def test_inspect_prints_what_the_report_says(
    versions: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")

    assert main(["inspect", str(versions[0].parent)]) == 0

    shown = capsys.readouterr().out
    flat = " ".join(shown.split())
    manifest = read_manifest(versions[0])
    assert [title for title in ("lstm/1 (FP32)", "lstm/2 (INT8)", "lstm/3 (FP16)") if title in shown] != []
    assert all(" ".join(warning.split()) in flat for warning in manifest.warnings)
    assert "1 DynamicQuantizeLSTM" in flat
    assert "INT8 nodes: lstm. Left in float: none." in flat
    assert manifest.file.sha256 in flat
    assert "rms_relative <= 0.2" in flat


def test_inspect_shows_decoded_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")

    assert main(["inspect", str(write_ctc(tmp_path))]) == 0

    assert "text_beam" in capsys.readouterr().out


def test_numbers_are_short_and_bars_in_cells_are_escaped() -> None:
    assert [number(value) for value in (0.123456, 1.5e-6, 0.0, 7, "text")] == ["0.1235", "1.5e-06", "0", "7", "text"]
    assert table(("a",), [("b|c",)]) == ["| a |", "| --- |", "| b\\|c |"]
