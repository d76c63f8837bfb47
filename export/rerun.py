"""The proofs of a version again, on this machine, from what lies in its folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from export.data import Data, noise, pool, read_data
from export.job import finite
from export.proving.accuracy import compare
from export.proving.gate import find_figure, prove_gate
from export.proving.half_proofs import EMULATED, prove_half
from export.proving.int8_proofs import measure_bytes, prove_accuracy, report_chunks, report_company, report_latency
from export.proving.latency import compare_latency
from export.proving.metric import Metric, report_metric
from export.proving.native_proofs import NATIVE, prove_native_chunks, prove_native_company
from export.proving.proofs import COMPANY_LIMIT, PARITY_LIMIT, measure_chunks, measure_company, prove_parity
from export.proving.recorded import ORIGINAL_FILE, Recorded, read_recorded
from export.proving.saturation import prove_saturation
from export.runtime import Device, Row, Runtime
from export.smaller.export_int8 import read_model
from export.smaller.int8_forms import open_native
from serving.errors import ArtifactError
from serving.manifest import Manifest, Proof, read_manifest
from serving.plan import NATIVE_DIRECTORY

CUDA_LIMIT = 5e-3
"""On a GPU, relative to the largest output: kernels differ by batch size and multiply in TF32 (10 bits of mantissa)."""
NO_ANSWERS = f"not re-run: the folder has no {ORIGINAL_FILE} (lstm-export torch and onnx write one)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How proofs are repeated.

    Attributes:
        data: `.npz` file or MODULE:FUNCTION; None for noise.
        device: where FP32 and FP16 run; INT8 always runs on the CPU.
        metric: None if the user gives none.
    """

    data: str | None
    device: Device
    metric: Metric | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A check as it was recorded and as it came out here.

    Attributes:
        recorded: None if the version was written without it.
        here: None if it was not repeated.
        reason: why it was not.
    """

    name: str
    recorded: Proof | None
    here: Proof | None
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether the check was repeated and did not pass."""
        return self.here is not None and not self.here.passed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """A version in memory.

    Attributes:
        directory: its folder.
        runtime: of `model.onnx`.
        native: of the native form; None without one, or where the native engine was not built.
        source: the FP32 version it was made from, if its folder is still there and intact; None for FP32 versions.
        recorded: the original model's answers; None without the file.
    """

    directory: Path
    manifest: Manifest
    runtime: Runtime
    native: Runtime | None
    source: Runtime | None
    data: Data
    rows: list[Row]
    recorded: Recorded | None

    @property
    def forms(self) -> dict[str, Runtime]:
        """What runs each form of the version, by what its figures are called; "fp32" is what it was made from."""
        manifest = self.manifest
        found = {} if self.source is None else {"fp32": self.source}
        if manifest.int8 is None or any(proof.name == "int8" for proof in manifest.proofs):
            found[manifest.precision] = self.runtime
        return found if self.native is None else {**found, NATIVE: self.native}

    @property
    def preferred(self) -> str:
        """The form that the gate and the metric judged."""
        int8 = self.manifest.int8
        return NATIVE if int8 is not None and int8.engine == "native" else self.manifest.precision


def rerun(directory: Path, manifest: Manifest, settings: Settings) -> list[Outcome]:
    """Repeat a version's proofs, in the order in which they were recorded.

    Raises:
        ExportError: onnxruntime cannot load a file, the device is not there, or the data or the metric do not fit.
    """
    subject = _load(directory, manifest, settings)
    here: dict[str, Proof] = {}
    for run in (RUNS[manifest.precision], _device, _metric(settings.metric)):
        for proof in run(subject):
            here[proof.name] = finite(proof)
    recorded = {proof.name: proof for proof in manifest.proofs}
    outcomes = [
        Outcome(name=name, recorded=proof, here=_same(here, name), reason=_reason(name, subject))
        for name, proof in recorded.items()
        if name != "gate"
    ]
    told = {outcome.here.name for outcome in outcomes if outcome.here is not None}
    outcomes += [Outcome(name=name, recorded=None, here=proof) for name, proof in here.items() if name not in told]
    if "gate" in recorded:
        outcomes.append(_gate(recorded["gate"], list(here.values()), subject.preferred))
    return outcomes


def _load(directory: Path, manifest: Manifest, settings: Settings) -> _Subject:
    model = read_model(manifest, directory)
    device = "cpu" if manifest.precision == "int8" else settings.device
    extras = settings.metric is not None
    data = noise(model) if settings.data is None else read_data(settings.data, model.inputs, extras=extras)
    return _Subject(
        directory=directory,
        manifest=manifest,
        runtime=Runtime(model, device=device, half=manifest.precision == "fp16"),
        native=open_native(directory, manifest, model),
        source=_source(directory, manifest),
        data=data,
        rows=pool(data, manifest.inputs),
        recorded=read_recorded(directory, model),
    )


def _source(directory: Path, manifest: Manifest) -> Runtime | None:
    """Return the FP32 version that this one was made from, on the CPU, as the judge of all devices."""
    number = manifest.source.get("fp32_version") if manifest.int8 is None else str(manifest.int8.source_version)
    if manifest.precision == "fp32" or number is None:
        return None
    folder = directory.parent / number
    try:
        return Runtime(read_model(read_manifest(folder), folder))
    except ArtifactError:
        return None


def _fp32(subject: _Subject) -> Iterator[Proof]:
    equal = subject.manifest.equal_lengths
    recorded = subject.recorded
    if recorded is not None:
        limit = PARITY_LIMIT if subject.runtime.device == "cpu" else CUDA_LIMIT
        yield prove_parity(subject.runtime, recorded, recorded.rows, equal_lengths=equal, limit=limit)
    relative = measure_company(subject.runtime, subject.rows, equal_lengths=equal).relative
    yield _relative("company", relative, subject.runtime.device)
    if subject.manifest.stepwise:
        yield _relative("chunks", measure_chunks(subject.runtime, subject.rows).relative, subject.runtime.device)


def _int8(subject: _Subject) -> Iterator[Proof]:
    runtime, source, real = subject.runtime, subject.source, subject.data.real
    equal_lengths = subject.manifest.equal_lengths
    if "int8" in subject.forms:
        if source is not None:
            comparison = compare(source, runtime, subject.data.rows)
            sizes = measure_bytes(source.model.content, [runtime.model.content], form="int8")
            yield prove_accuracy(comparison, sizes, counts={}, real=real)
        yield prove_saturation(runtime.model.content)
        yield report_company(runtime, subject.rows, equal_lengths=equal_lengths)
        if subject.manifest.stepwise:
            yield report_chunks(runtime, subject.rows)
    if subject.native is not None:
        yield from _native(subject, subject.native)
    if source is not None and len(subject.forms) > 1:
        yield report_latency(compare_latency(subject.forms, subject.data.rows, mixed=not equal_lengths))


def _native(subject: _Subject, native: Runtime) -> Iterator[Proof]:
    plan = subject.manifest.native
    assert plan is not None
    files = {file.name: (subject.directory / NATIVE_DIRECTORY / file.name).read_bytes() for file in plan.files}
    packed = len(files.pop(plan.weights.name))
    contents = list(files.values())
    if subject.source is not None:
        comparison = compare(subject.source, native, subject.data.rows)
        sizes = measure_bytes(subject.source.model.content, contents, form=NATIVE, packed_bytes=packed)
        yield prove_accuracy(comparison, sizes, counts={}, real=subject.data.real, form=NATIVE)
    yield prove_native_company(native, subject.rows, contents, equal_lengths=subject.manifest.equal_lengths)
    if subject.manifest.stepwise:
        yield prove_native_chunks(native, subject.rows, contents)


def _fp16(subject: _Subject) -> Iterator[Proof]:
    if subject.source is None:
        return
    proofs, _ = prove_half(subject.manifest, subject.source, subject.runtime, subject.data, subject.rows)
    yield from proofs


RUNS: dict[str, Callable[[_Subject], Iterator[Proof]]] = {"fp32": _fp32, "int8": _int8, "fp16": _fp16}


def _device(subject: _Subject) -> Iterator[Proof]:
    """Compare the GPU's answers with the CPU's to the same file, and time an FP16 file there against its FP32 one."""
    runtime = subject.runtime
    if runtime.device == "cpu":
        return
    if subject.source is None:
        comparison = compare(Runtime(runtime.model), runtime, subject.rows)
        relative = 0.0 if comparison.floats is None else comparison.floats.relative
        yield _relative("device", relative, runtime.device)
    else:
        fp32 = Runtime(subject.source.model, device=runtime.device)
        yield report_latency(compare_latency({"fp32": fp32, "fp16": runtime}, subject.data.rows))


def _metric(metric: Metric | None) -> Callable[[_Subject], Iterator[Proof]]:
    def run(subject: _Subject) -> Iterator[Proof]:
        if metric is not None and subject.source is not None and subject.preferred in subject.forms:
            yield report_metric(metric, subject.forms, subject.data, judged=subject.preferred)

    return run


def _relative(name: str, relative: float, device: Device) -> Proof:
    limit = COMPANY_LIMIT if device == "cpu" else CUDA_LIMIT
    return Proof(name=name, passed=relative <= limit, measured={"relative": relative}, limit={"relative": limit})


def _same(here: dict[str, Proof], name: str) -> Proof | None:
    """Return the proof of this name; what was emulated when it was recorded may be real here."""
    return here.get(name) or here.get(name.removesuffix(EMULATED))


def _reason(name: str, subject: _Subject) -> str:
    if name == "parity":
        return NO_ANSWERS
    if subject.manifest.precision != "fp32" and subject.source is None:
        return "not re-run: the FP32 version it was made from is gone or damaged"
    if name == "cut":
        return "not re-run: proven when the version was made"
    if name.startswith(NATIVE):
        return "not re-run: the native engine was not built here"
    return "not re-run: give --metric and --data" if name == "metric" else "not re-run"


def _gate(recorded: Proof, here: list[Proof], precision: str) -> Outcome:
    """Compare those figures again that were measured again."""
    limits = recorded.limit or {}
    again = {name: limit for name, limit in limits.items() if find_figure(name, here, precision=precision) is not None}
    proof = prove_gate(again, here, precision=precision) if again else None
    return Outcome(name="gate", recorded=recorded, here=proof, reason="not re-run: none of its figures was")
