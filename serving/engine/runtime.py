"""ONNX Runtime as every engine uses it: imported when it is needed, with the same options for each session."""

import importlib
from typing import Any

from serving.errors import EngineUnavailable

FATAL_ONLY = 4
"""ONNX Runtime's log severity. Its errors are raised as well, and logged where they are caught, in the form of our log;
its warnings speak of graph optimizations, not of anything an operator can change."""


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


def session_options(onnxruntime: Any, *, threads: int) -> Any:  # noqa: ANN401  the module has no types
    """Return the options of a session whose calls take so many threads on the CPU.

    Spinning is off: a waiting thread sleeps, so that idle models cost nothing in a pod with a CPU quota.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
