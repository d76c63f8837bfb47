"""What is measured of an INT8 version, the user's metric and limits, and what is said when INT8 does not pay."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.data import noise, read_data
from export.errors import ExportError, ProofFailed
from export.job import Checks
from export.proving.accuracy import compare, compare_answers
from export.proving.gate import GateUsageError, parse_gate, prove_gate
from export.proving.int8_proofs import RMS_LIMIT, measure_bytes, prove_accuracy
from export.proving.latency import BATCHES
from export.proving.metric import load_metric, report_metric
from export.proving.payoff import missed_targets
from export.runtime import Row, Runtime
from export.smaller.export_int8 import export_int8, read_model
from export.smaller.quantize import Quantized, quantize
from serving.manifest import Proof, Tensor, read_manifest
from tests.export import judges
from tests.export.support import quiet_job
from tests.support.artefacts import write_lstm

JUDGES = "tests.export.judges"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lstm(tmp_path_factory.mktemp("models"), stepwise=True, bidirectional=False)


@pytest.fixture(scope="module")
def pair(version: Path) -> tuple[Runtime, Runtime, Quantized]:
    model = read_model(read_manifest(version), version)
    quantized = quantize(model)
    return Runtime(model), Runtime(quantized.model), quantized


def test_counts_bytes_and_errors_are_in_the_proof(pair: tuple[Runtime, Runtime, Quantized]) -> None:
    fp32, int8, quantized = pair
    comparison = compare(fp32, int8, noise(fp32.model).rows[:16])

    sizes = measure_bytes(fp32.model.content, [int8.model.content], form="int8")
    proof = prove_accuracy(comparison, sizes, counts=quantized.coverage.counts, real=False)

    weights = [
        sum(
            numpy_helper.to_array(tensor).nbytes
            for tensor in onnx.load_from_string(one.model.content).graph.initializer
        )
        for one in (fp32, int8)
    ]
    assert proof.passed
    assert proof.measured["LSTM_quantized"] == "1 of 1"
    assert proof.measured["weights_share"] == weights[1] / weights[0]
    assert proof.measured["size"] == len(int8.model.content) / len(fp32.model.content)
    assert 0 < float(proof.measured["rms_relative"]) < RMS_LIMIT
    assert float(proof.measured["cosine"]) > 0.99
    assert float(proof.measured["argmax_agreement"]) > 0.9


def test_weights_that_are_not_the_model_s_fail(pair: tuple[Runtime, Runtime, Quantized]) -> None:
    fp32, _, _ = pair
    proto = onnx.load_from_string(fp32.model.content)
    weights = next(tensor for tensor in proto.graph.initializer if tensor.name == "R")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights)[:, ::-1].copy(), "R"))
    other = Runtime(replace(fp32.model, content=proto.SerializeToString()))

    proof = prove_accuracy(compare(fp32, other, noise(fp32.model).rows[:8]), {}, counts={}, real=False)

    assert not proof.passed


def test_integer_outputs_are_compared_by_how_many_are_equal() -> None:
    tokens = Tensor(name="tokens", datatype="INT64", shape=("batch", 4))
    rows = [Row(inputs={}, steps=3)]
    expected, got = [{"tokens": np.array([1, 2, 3, 9])}], [{"tokens": np.array([1, 2, 3, 900])}]

    comparison = compare_answers([tokens], expected, got, rows)

    assert comparison.floats is None
    assert comparison.figures == {"equal_share": 0.75}
    assert comparison.count == 1


def test_the_error_of_each_row_is_kept_with_its_length() -> None:
    y = Tensor(name="y", datatype="FP32", shape=("batch", "time"))
    rows = [Row(inputs={}, steps=1), Row(inputs={}, steps=3)]
    expected = [{"y": np.array([2.0])}, {"y": np.array([2.0, 2.0, 2.0])}]
    got = [{"y": np.array([2.0])}, {"y": np.array([3.0, 1.0, 3.0])}]

    errors = compare_answers([y], expected, got, rows).rows

    assert [(error.steps, error.rms_relative) for error in errors] == [(1, 0.0), (3, 0.5)]


@pytest.mark.parametrize(("name", "better"), [("accuracy", "higher"), ("error", "lower")])
def test_a_metric_is_reported_for_both_versions(
    pair: tuple[Runtime, Runtime, Quantized], name: str, better: str
) -> None:
    fp32, int8, _ = pair
    metric = load_metric(f"{JUDGES}:{name}", lower_is_better=False)
    data = read_data(f"{JUDGES}:labelled", fp32.model.inputs, extras=True)

    measured = report_metric(metric, {"fp32": fp32, "int8": int8}, data, judged="int8").measured

    values = [float(measured[precision]) for precision in ("fp32", "int8")]
    answers = [fp32.answer([row])[0] for row in data.everything]
    outputs = {key: [answer[key] for answer in answers] for key in ("last", "steps")}
    cut = {"x": [row.inputs["x"] for row in data.everything], "lengths": [row.steps for row in data.everything]}
    assert values[0] == getattr(judges, name)(outputs, cut | {"labels": data.extras["labels"]})
    assert measured["better"] == better
    assert measured["rows"] == judges.ROWS
    assert measured["loss"] == (values[0] - values[1] if better == "higher" else values[1] - values[0])


def test_the_flag_turns_a_metric_round() -> None:
    assert not load_metric(f"{JUDGES}:accuracy", lower_is_better=True).higher_is_better


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "failing",
            r"failed: KeyError: 'absent'.*outputs \['last', 'steps'\] and the data \['labels', 'lengths', 'x'\]",
        ),
        ("infinite", "returned nan; expected a finite number"),
    ],
)
def test_a_metric_that_gives_no_number_is_named(
    pair: tuple[Runtime, Runtime, Quantized], name: str, message: str
) -> None:
    fp32, int8, _ = pair
    runtimes = {"fp32": fp32, "int8": int8}
    data = read_data(f"{JUDGES}:labelled", fp32.model.inputs, extras=True)

    with pytest.raises(ExportError, match=message):
        report_metric(load_metric(f"{JUDGES}:{name}", lower_is_better=False), runtimes, data, judged="int8")


def test_a_metric_needs_real_data(pair: tuple[Runtime, Runtime, Quantized]) -> None:
    fp32, int8, _ = pair
    metric = load_metric(f"{JUDGES}:accuracy", lower_is_better=False)

    with pytest.raises(ExportError, match="noise has no right answers; give --data"):
        report_metric(metric, {"fp32": fp32, "int8": int8}, noise(fp32.model), judged="int8")


@pytest.mark.parametrize("name", ["accuracy", "absent.module:f", f"{JUDGES}:absent", f"{JUDGES}:ROWS"])
def test_a_metric_that_is_no_function_is_named(name: str) -> None:
    with pytest.raises(ExportError, match="--metric"):
        load_metric(name, lower_is_better=False)


def test_a_gate_is_parsed() -> None:
    assert parse_gate("rms=0.1, metric=1e-2,cosine=0.9") == {"rms": 0.1, "metric": 0.01, "cosine": 0.9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency=1", "'latency' is unknown; expected FIGURE=NUMBER.*rms"),
        ("rms=0.1,rms=0.2", "'rms' is given twice"),
        ("rms=small", "'small' is not a number"),
        ("rms", "'' is not a number"),
        ("", "'' is unknown"),
        ("rms=nan", "got NaN"),
    ],
)
def test_a_gate_of_another_form_is_named(text: str, message: str) -> None:
    with pytest.raises(GateUsageError, match=message):
        parse_gate(text)


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        ({"rms": 0.1}, True),
        ({"rms": 0.09}, False),
        ({"cosine": 0.99}, True),
        ({"cosine": 0.995}, False),
        ({"size": 0.3, "metric": 0.0}, True),
        ({"size": 0.3, "metric": -0.01}, False),
        ({"argmax": 0.5}, False),
    ],
)
def test_errors_may_be_at_most_and_agreement_at_least_what_the_gate_says(
    limits: dict[str, float], passed: bool
) -> None:
    figures = {"rms_relative": 0.1, "cosine": 0.99, "size": 0.25, "argmax_agreement": float("nan")}
    proofs = [
        Proof(name="int8", passed=True, measured=figures),
        Proof(name="metric", passed=True, measured={"loss": 0.0}),
    ]

    proof = prove_gate(limits, proofs, precision="int8")

    assert proof.passed is passed
    assert proof.limit == limits


def test_a_gate_on_what_was_not_measured_is_an_error() -> None:
    with pytest.raises(ExportError, match=r"metric: .*give --metric"):
        prove_gate({"metric": 0.1}, [Proof(name="int8", passed=True, measured={})], precision="int8")


def test_beyond_the_gate_nothing_is_written_unless_forced(tmp_path: Path) -> None:
    directory = write_lstm(tmp_path, stepwise=True, bidirectional=False)
    checks = Checks(metric=load_metric(f"{JUDGES}:accuracy", lower_is_better=False), gate={"rms": 1e-6, "metric": 1.0})
    job, _ = quiet_job()
    job = replace(job, data=f"{JUDGES}:labelled")

    with pytest.raises(ProofFailed, match="gate measured"):
        export_int8(directory, job, checks)
    assert [path.name for path in directory.parent.iterdir()] == ["1"]

    manifest = read_manifest(export_int8(directory, replace(job, force=True), checks))
    assert manifest.forced
    gate = next(proof for proof in manifest.proofs if proof.name == "gate")
    assert not gate.passed
    assert gate.limit == {"rms": 1e-6, "metric": 1.0}


def speedups(*values: float) -> dict[str, float | int | str]:
    return {f"batch_{batch}_int8_speedup": value for batch, value in zip(BATCHES, values, strict=True)}


def test_a_small_model_is_told_which_target_it_misses_and_why(pair: tuple[Runtime, Runtime, Quantized]) -> None:
    _, _, quantized = pair
    latency = {"cpu": "some processor (avx2)", **speedups(0.8, 0.9, 1.2)}

    memory, time, error = missed_targets(quantized, {"weights_share": 0.6, "rms_relative": 0.08}, latency)

    assert "the weights take 60% of FP32's bytes, the target is 26%" in memory
    assert "biases, scales and other constants, in float" in memory
    assert "one row takes 1.25 of FP32's time, the target is 0.40" in time
    assert "largest INT8 layer has 4 units" in time
    assert "INT8 pays on this machine at batch 32 only" in time
    assert "by 8.0% of their RMS, the target is 5%" in error


def test_a_model_that_meets_its_targets_is_told_nothing(pair: tuple[Runtime, Runtime, Quantized]) -> None:
    _, _, quantized = pair
    latency = {"cpu": "some processor (avx2)", **speedups(3.0, 2.0, 2.0)}

    assert missed_targets(quantized, {"weights_share": 0.255, "rms_relative": 0.01}, latency) == ()
