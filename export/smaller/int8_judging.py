"""The proofs of a model's INT8 forms, and which form to prefer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from export.data import Data
from export.job import Checks, Job
from export.proving.accuracy import Comparison, compare
from export.proving.gate import prove_gate
from export.proving.int8_proofs import measure_bytes, prove_accuracy, report_chunks, report_company, report_latency
from export.proving.latency import Latency, compare_latency
from export.proving.metric import report_metric
from export.proving.native_proofs import prove_native_chunks, prove_native_company
from export.proving.saturation import prove_saturation
from export.runtime import Row, Runtime
from export.smaller.int8_forms import EngineName, Forms, faster_form
from serving.manifest import Manifest, Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model in all its forms, and what they are judged with.

    Attributes:
        source: the FP32 version.
        data: to compare on.
        rows: of many lengths.
        forms: as they were made.
        runtimes: by form: "fp32", and of "int8" (onnxruntime's) and "native" those that there are.
    """

    source: Manifest
    data: Data
    rows: list[Row]
    forms: Forms
    runtimes: dict[str, Runtime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found.

    Attributes:
        subject: without a native form that failed its proofs, if onnxruntime's can stand in.
        proofs: of all forms.
        comparison: of the preferred form with FP32, on the data.
        latencies: of all forms.
        preferred: "int8" or "native".
    """

    subject: Subject
    proofs: tuple[Proof, ...]
    comparison: Comparison
    latencies: list[Latency]
    preferred: str


def judge(subject: Subject, engine: EngineName, checks: Checks, job: Job) -> Judged:
    """Prove and time all forms; `auto` prefers the faster of those that hold.

    Raises:
        ExportError: the metric or the limits do not fit.
    """
    comparisons: dict[str, Comparison] = {}
    proofs: list[Proof] = []
    if "int8" in subject.runtimes:
        comparisons["int8"], found = _judge_portable(subject, job)
        proofs += found
    if "native" in subject.runtimes:
        comparisons["native"], found = _judge_native(subject, job)
        failed = [proof for proof in found if not proof.passed]
        if failed and engine == "auto" and "int8" in subject.runtimes:
            subject = _without_native(subject, failed)
        else:
            proofs += found
    with job.step("timing the forms in turns"):
        mixed = not subject.source.equal_lengths
        latencies = compare_latency(subject.runtimes, subject.data.rows, mixed=mixed)
    proofs.append(report_latency(latencies))
    chosen = {"auto": faster_form(latencies), "native": "native", "onnxruntime": "int8"}[engine]
    if checks.metric is not None:
        with job.step(f"running {checks.metric.name}"):
            proofs.append(report_metric(checks.metric, subject.runtimes, subject.data, judged=chosen))
    if checks.gate:
        proofs.append(prove_gate(checks.gate, proofs, precision=chosen))
    return Judged(
        subject=subject,
        proofs=tuple(proofs),
        comparison=comparisons[chosen],
        latencies=latencies,
        preferred=chosen,
    )


def _judge_portable(subject: Subject, job: Job) -> tuple[Comparison, list[Proof]]:
    fp32, int8, portable = subject.runtimes["fp32"], subject.runtimes["int8"], subject.forms.portable
    with job.step(f"comparing with FP32 ({subject.data.name})"):
        comparison = compare(fp32, int8, subject.data.rows)
    sizes = measure_bytes(fp32.model.content, portable.contents, form="int8")
    counts, real = portable.coverage.counts, subject.data.real
    proofs = [prove_accuracy(comparison, sizes, counts=counts, real=real), prove_saturation(int8.model.content)]
    with job.step("measuring what company does"):
        proofs.append(report_company(int8, subject.rows, equal_lengths=subject.source.equal_lengths))
        if subject.source.stepwise:
            proofs.append(report_chunks(int8, subject.rows))
    return comparison, proofs


def _judge_native(subject: Subject, job: Job) -> tuple[Comparison, list[Proof]]:
    fp32, native, form = subject.runtimes["fp32"], subject.runtimes["native"], subject.forms.native
    assert form is not None
    with job.step(f"comparing the native form with FP32 ({subject.data.name})"):
        comparison = compare(fp32, native, subject.data.rows)
    sizes = measure_bytes(fp32.model.content, form.contents, form="native", packed_bytes=form.packed_bytes)
    counts, real = form.coverage.counts, subject.data.real
    proofs = [
        *subject.forms.proofs,
        prove_accuracy(comparison, sizes, counts=counts, real=real, form="native"),
    ]
    with job.step("proving that company never matters to the native form"):
        equal = subject.source.equal_lengths
        proofs.append(prove_native_company(native, subject.rows, form.contents, equal_lengths=equal))
        if subject.source.stepwise:
            proofs.append(prove_native_chunks(native, subject.rows, form.contents))
    return comparison, proofs


def _without_native(subject: Subject, failed: Sequence[Proof]) -> Subject:
    reasons = "; ".join(f"{proof.name} measured {proof.measured}, the limit is {proof.limit}" for proof in failed)
    note = f"It has no native form: a proof of it failed: {reasons}."
    runtimes = {name: runtime for name, runtime in subject.runtimes.items() if name != "native"}
    return replace(subject, forms=replace(subject.forms, native=None, proofs=(), note=note), runtimes=runtimes)
