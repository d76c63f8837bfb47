"""ONNX Runtime behind the engine's interface."""

import logging
from pathlib import Path
from typing import Any, Literal

from serving.engine.runtime import load_onnxruntime, session_options
from serving.engine.sessions import SessionEngine
from serving.errors import ArtifactError, EngineUnavailable
from serving.manifest import Manifest

log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]

CRASHING_FUSIONS = ["MatmulTransposeFusion"]
"""ONNX Runtime 1.32 dies of a segmentation fault when it fuses across the casts of an FP16 file on the CPU."""

NVIDIA_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What the driver makes on Linux and in WSL. Without it onnxruntime-gpu would log a page of errors for every model."""


class OnnxEngine(SessionEngine):
    """One ONNX Runtime session of one model version's whole graph."""

    name = "onnxruntime"

    def __init__(self, manifest: Manifest, model: Path, *, device: Device, threads: int) -> None:
        """Load the model.

        Args:
            manifest: of the version.
            model: the ONNX file; its checksum has been verified.
            device: `auto` takes CUDA where it works and the CPU elsewhere.
            threads: threads of one call on the CPU.

        Raises:
            EngineUnavailable: no onnxruntime, or `cuda` was asked for and does not work here.
            ArtifactError: onnxruntime cannot load the file, or its inputs and outputs are not the manifest's.
        """
        onnxruntime = load_onnxruntime()
        providers = _providers(onnxruntime, device, manifest)
        try:
            session = onnxruntime.InferenceSession(
                model,
                session_options(onnxruntime, threads=threads),
                providers=providers,
                disabled_optimizers=CRASHING_FUSIONS if manifest.precision == "fp16" else None,
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"{model}: onnxruntime cannot load it: {error}") from error
        found = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
        super().__init__(manifest, session, device=found, threads=threads if found == "cpu" else 0)
        if device == "cuda" and found != "cuda" and manifest.precision != "int8":
            raise EngineUnavailable(
                "--device cuda: onnxruntime fell back to the CPU; its log says which library failed"
            )
        if found == "cpu" and manifest.precision == "fp16":
            log.warning(
                "%s: onnxruntime computes half precision in FP32 on the CPU, so it gains nothing here; serve "
                "the FP32 version",
                model,
            )
        _check_signature(session, manifest, model)


def _check_signature(session: Any, manifest: Manifest, model: Path) -> None:  # noqa: ANN401  no types
    for side, found, expected in (
        ("inputs", {node.name for node in session.get_inputs()}, manifest.graph_inputs),
        ("outputs", {node.name for node in session.get_outputs()}, manifest.graph_outputs),
    ):
        if found != expected:
            raise ArtifactError(f"{model}: its {side} are {sorted(found)}, the manifest says {sorted(expected)}")


def _providers(onnxruntime: Any, device: Device, manifest: Manifest) -> list[str]:  # noqa: ANN401  no types
    """Choose execution providers. ONNX Runtime has no INT8 LSTM for CUDA, so those models stay on the CPU."""
    available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "auto":
        available = available and any(path.exists() for path in NVIDIA_DEVICES)
    if device == "cuda" and not available:
        raise EngineUnavailable(
            "--device cuda: the installed onnxruntime has no CUDA support; "
            "pip uninstall onnxruntime && pip install 'lstm-serving[gpu]'"
        )
    if device == "cpu" or not available or manifest.precision == "int8":
        return ["CPUExecutionProvider"]
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN where pip installed them
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
