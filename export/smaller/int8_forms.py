"""The INT8 forms of a model: onnxruntime's, in standard operators, and the native engine's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.errors import ExportError
from export.model import OnnxModel
from export.proving.cut import prove_cut
from export.proving.latency import Latency
from export.runtime import Row, Runtime
from export.smaller.native_cut import cut
from export.smaller.native_form import NativeForm
from export.smaller.quantize import Quantized, quantize, quantize_if_possible
from serving.engine.native.library import load_library
from serving.engine.native.session import NativeSession
from serving.errors import EngineUnavailable
from serving.manifest import Manifest, Proof
from serving.plan import NATIVE_DIRECTORY

EngineName = Literal["auto", "native", "onnxruntime"]
PORTABLE_IS_FLOAT = (
    "onnxruntime has no INT8 form of any of its layers, so `model.onnx`, which is served where the native engine was "
    "not built, is FP32"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """What was made of a model.

    Attributes:
        portable: onnxruntime's; FP32 where it has no INT8 form of any node.
        native: None if there is none.
        proofs: of the cut.
        note: why there is no native form, though it was wanted; for the report.
    """

    portable: Quantized
    native: NativeForm | None
    proofs: tuple[Proof, ...] = ()
    note: str = ""


def make_forms(fp32: Runtime, pool: Sequence[Row], engine: EngineName, *, equal_lengths: bool) -> Forms:
    """Quantize an FP32 model for the engines that are wanted.

    Args:
        fp32: the model.
        pool: rows of many lengths, to prove the cut with.
        engine: `native` must have a native form, `onnxruntime` none, `auto` one if that can be made.
        equal_lengths: rows of a batch must have one length.

    Raises:
        ExportError: nothing can be quantized; or the native engine was asked for, and it was not built, has none of the
            model's layers, or a cut would change the result.
    """
    if engine == "onnxruntime":
        return Forms(portable=quantize(fp32.model), native=None)
    try:
        native, proof = _native(fp32, pool, equal_lengths=equal_lengths)
    except (EngineUnavailable, ExportError) as error:
        if engine == "native":
            raise ExportError(f"--engine native: {error}") from error
        return Forms(portable=quantize(fp32.model), native=None, note=f"It has no native form: {error}.")
    return Forms(portable=quantize_if_possible(fp32.model), native=native, proofs=(proof,))


def _native(fp32: Runtime, pool: Sequence[Row], *, equal_lengths: bool) -> tuple[NativeForm, Proof]:
    load_library()
    form = cut(fp32.model)
    return form, prove_cut(form, fp32, pool, equal_lengths=equal_lengths)


def open_forms(forms: Forms, fp32: OnnxModel) -> dict[str, Runtime]:
    """Return what runs each form that is INT8: "int8" onnxruntime's, "native" the native engine's."""
    runtimes = {"int8": Runtime(forms.portable.model)} if forms.portable.coverage.nodes else {}
    if forms.native is not None:
        runtimes["native"] = Runtime(fp32, session=forms.native.session())
    return runtimes


def open_native(directory: Path, manifest: Manifest, model: OnnxModel) -> Runtime | None:
    """Return what runs the native form of the version in `directory`; None if it has none, or the engine was not built.

    Raises:
        ArtifactError: its files are not what the manifest says.
    """
    if manifest.native is None:
        return None
    try:
        session = NativeSession(directory / NATIVE_DIRECTORY, manifest.native, threads=1)
    except EngineUnavailable:
        return None
    return Runtime(model, session=session)


def faster_form(latencies: Sequence[Latency]) -> str:
    """Return the INT8 form that is faster over all that was timed: the geometric mean of the ratios decides."""
    timed = latencies[0].seconds
    if "native" not in timed or "int8" not in timed:
        return "native" if "native" in timed else "int8"
    product = 1.0
    for latency in latencies:
        product *= latency.speedup("native", over="int8")
    return "native" if product >= 1.0 else "int8"
