"""ONNX Runtime behind the engine's interface."""

import importlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serving.clock import NANOSECONDS_PER_SECOND, Clock
from serving.errors import ArtifactError, EngineUnavailable
from serving.manifest import Manifest
from serving.tensors import Arrays, Layout, Rows, whole_parts

log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]
ERRORS_ONLY = 3
"""ONNX Runtime's log severity: its warnings speak of graph optimizations, not of anything an operator can change."""

CRASHING_FUSIONS = ["MatmulTransposeFusion"]
"""ONNX Runtime 1.32 dies of a segmentation fault when it fuses across the casts of an FP16 file on the CPU."""

LONGEST_WARM_UP_SECONDS = 0.5
"""A call this long is the last of a warm-up: larger ones would only delay the start."""

NVIDIA_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What the driver makes on Linux and in WSL. Without it onnxruntime-gpu would log a page of errors for every model."""


def load_onnxruntime() -> Any:  # noqa: ANN401  the module has no types
    """Import onnxruntime, from whichever of its packages is installed.

    Raises:
        EngineUnavailable: none is, or the one that is there does not load.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise EngineUnavailable(
            f"onnxruntime cannot be imported ({error}); install one of: pip install 'lstm-serving[cpu]' (CPU), "
            "pip install 'lstm-serving[gpu]' (CUDA)"
        ) from error


class OnnxEngine:
    """One ONNX Runtime session of one model version.

    Spinning is off: a waiting thread sleeps, so that idle models cost nothing in a pod with a CPU quota.
    """

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
        self._manifest = manifest
        self._layout = Layout(manifest)
        self._outputs = list(self._layout.produced)
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        providers = _providers(onnxruntime, device, manifest)
        try:
            self._session = onnxruntime.InferenceSession(
                model,
                options,
                providers=providers,
                disabled_optimizers=CRASHING_FUSIONS if manifest.precision == "fp16" else None,
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"{model}: onnxruntime cannot load it: {error}") from error
        self.device = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        self.threads = threads if self.device == "cpu" else 0
        if device == "cuda" and self.device != "cuda" and manifest.precision != "int8":
            raise EngineUnavailable(
                "--device cuda: onnxruntime fell back to the CPU; its log says which library failed"
            )
        if self.device == "cpu" and manifest.precision == "fp16":
            log.warning(
                "%s: onnxruntime computes half precision in FP32 on the CPU, so it gains nothing here; serve "
                "the FP32 version",
                model,
            )
        self._check_signature(model)

    def run(self, feed: Arrays) -> Arrays:
        """Compute the manifest's outputs, and a stepwise model's next state, for a packed feed."""
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))

    def warm_up(self, shapes: Iterable[tuple[int, int]], clock: Clock) -> list[tuple[int, int, float]]:
        """Run zeros for each (rows, steps), so that the first callers do not pay for allocation and kernel choice.

        A shape whose row takes too long for a warm-up ends it; the first is always run.

        Returns:
            (rows, steps, seconds) of each shape's second run: what the cost model starts from.

        Raises:
            ArtifactError: the model fails on them, or answers in other shapes than its manifest says.
        """
        measured = []
        for rows, steps in shapes:
            for _ in range(2):
                started_ns = clock.now_ns()
                parts = whole_parts(self._layout.answer(_zeros(self._manifest, rows, steps)))
                try:
                    self._layout.scatter(self.run(self._layout.pack(parts)), parts)
                except Exception as error:
                    raise ArtifactError(f"warm-up with {rows} rows of {steps} steps failed: {error}") from error
                seconds = (clock.now_ns() - started_ns) / NANOSECONDS_PER_SECOND
            measured.append((rows, steps, seconds))
            if seconds > LONGEST_WARM_UP_SECONDS:
                break
        return measured

    def _check_signature(self, model: Path) -> None:
        manifest = self._manifest
        expected_inputs = {tensor.name for tensor in manifest.inputs}
        if manifest.lengths_input is not None:
            expected_inputs.add(manifest.lengths_input)
        expected_outputs = set(self._outputs)
        if manifest.state is not None:
            expected_inputs.add(manifest.state.input)
        for side, found, expected in (
            ("inputs", {node.name for node in self._session.get_inputs()}, expected_inputs),
            ("outputs", {node.name for node in self._session.get_outputs()}, expected_outputs),
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


def _zeros(manifest: Manifest, rows: int, steps: int) -> Rows:
    sizes = {"batch": rows, "time": steps}
    inputs = {
        tensor.name: np.zeros([axis if isinstance(axis, int) else sizes[axis] for axis in tensor.shape], tensor.dtype)
        for tensor in manifest.inputs
    }
    return Rows(inputs=inputs, lengths=np.full(rows, steps, np.int64), time=steps)
