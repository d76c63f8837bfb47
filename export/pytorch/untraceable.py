"""Why a forward cannot be traced: the line of the user's that needs a number where the trace has a symbol.

torch names no line when a size turns out to be constant. It logs, however, each time it learns something of a size,
and the stack at that moment has the line.
"""

import inspect
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch.export import ExportedProgram
from torch.fx.traceback import preserve_node_meta

from export.errors import ExportError
from export.pytorch.calls import LINE
from export.pytorch.lines import is_users, line_of_frames
from export.pytorch.packing import packing_replaced

MESSAGE_LINES = 6
"""Lines of torch's message that name the cause; what follows repeats the graph."""
SYMBOLS = "torch.fx.experimental.symbolic_shapes"
CONDITIONS = ("torch/__init__.py", "torch/fx/experimental/", "/logging/", "/contextlib.py", "/functools.py")
"""Files between an `if` of the user's and the log: the condition was the user's own, not one inside an operator."""
CONSTANT = re.compile(r"Eq\((?:(?P<value>\d+), )?(?P<symbol>[su]\d+)(?:, (?P<number>\d+))?\)")
ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"\b(for|while)\b",
        (
            "A Python loop is cut to the steps of the trace. Use nn.LSTM, nn.GRU or nn.RNN instead of a loop over "
            "cells, PeepholeLSTM, ConvLSTM or a decoder of export.modules, or torch's scan or while_loop"
        ),
    ),
    (r"\blen\(", "Do not write len(x) for x.shape[0]: len makes a number of a size"),
    (
        r"\.item\(|\.tolist\(|\bint\(|\bfloat\(",
        (
            "A number made of a tensor's content is not in the graph; keep the tensor (compare, index and mask with "
            "it), and use .shape for sizes"
        ),
    ),
    (
        r"\b(if|elif|assert|and|or|not)\b",
        "Python decides once, in the trace, and the graph never again; use torch.where, or decide in the caller",
    ),
    (r"pool", "A pool as long as the sequence is .amax(axis) or .mean(axis), which take any length"),
    (r"\bmath\.", "The functions of math make a number of a size; n ** 0.5 is a root that stays free"),
    (r"linspace", "torch.linspace makes a number of a size; use torch.arange(n) / (n - 1)"),
    (r"\breshape\(|\bview\(|\bexpand\(|\brepeat\(", "Use .shape of the input, or -1 for one of them"),
)
OTHERWISE = (
    "Usual causes: numbers made of sizes or lengths (len(x) for x.shape[0], .item(), .tolist(), int()), loops over "
    "time, shapes with a fixed batch"
)


class _Guards(logging.Handler):
    """What torch learned of sizes while a line of the user's ran.

    Attributes:
        fixed: symbol, what it turned out to be, and the line.
        decided: condition that an `if` of the user's rests on, and the line.
    """

    def __init__(self, depth: int) -> None:
        """Look at frames further in than `depth` only: what is further out called the exporter."""
        super().__init__()
        self.depth = depth
        self.fixed: list[tuple[str, str, str]] = []
        self.decided: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note what a record says; most are of sizes that torch compares inside operators."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        if record.msg.startswith("set_replacement"):
            symbol, value = str(arguments[0]), str(arguments[1])
        elif "[guard added]" in record.msg and arguments[0] == "eval":
            constant = CONSTANT.fullmatch(str(arguments[1]))
            symbol, value = (constant["symbol"], constant["value"] or constant["number"]) if constant else ("", "")
        else:
            return
        frames = _stack(self.depth)
        line = line_of_frames(frames)
        if line is not None and symbol:
            self.fixed.append((symbol, value, line))
        elif line is not None and _is_condition(frames):
            self.decided.append((str(arguments[1]), line))


def _stack(depth: int) -> list[traceback.FrameSummary]:
    """Return the frames further in than a depth, outermost first; source is read only of lines that are shown."""
    frames = [
        traceback.FrameSummary(frame.f_code.co_filename, number, frame.f_code.co_name, lookup_line=False)
        for frame, number in traceback.walk_stack(inspect.currentframe())
    ]
    return frames[::-1][depth:]


def _is_condition(frames: Sequence[traceback.FrameSummary]) -> bool:
    last = max(index for index, frame in enumerate(frames) if is_users(frame.filename))
    inner = [frame.filename for frame in frames[last + 1 :] if frame.filename != __file__]
    return all(any(part in name for part in CONDITIONS) for name in inner)


@contextmanager
def _watched() -> Iterator[_Guards]:
    logger, guards = logging.getLogger(SYMBOLS), _Guards(len(_stack(0)))
    level, propagate = logger.level, logger.propagate
    handlers, logger.handlers = logger.handlers, [guards]  # torch's own would print what is only for us
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield guards
    finally:
        logger.handlers = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def trace_or_explain(export: Callable[[], ExportedProgram], sizes: Mapping[int, str]) -> ExportedProgram:
    """Return what `export` does, which runs forward under torch.export.

    Args:
        export: called once.
        sizes: names of the axes by their size in the traced example.

    Raises:
        ExportError: forward cannot be traced; the message has the line of forward and what to write instead.
    """
    with _watched() as guards:
        try:
            with torch.no_grad(), packing_replaced(), preserve_node_meta():
                program = export()
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(_explain(error, guards, sizes)) from error
    _note_lines(program)
    for condition, line in guards.decided:
        if not _code(line).startswith("assert"):
            raise ExportError(
                f"forward cannot be traced with batch and time free: {line} decides by a size ({condition}). "
                f"{_advice(line)}"
            )
    if guards.fixed and len(_free_sizes(program)) < len(sizes):
        raise ExportError(_frozen(guards, sizes))
    return program


def _free_sizes(program: ExportedProgram) -> set[str]:
    """Return the symbols among the sizes of the inputs: batch and time, if none has become a number."""
    names = program.graph_signature.user_inputs
    inputs = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return {str(size) for tensor in inputs for size in tensor.shape if isinstance(size, torch.SymInt)}


def _note_lines(program: ExportedProgram) -> None:
    """Let the stack trace of each node be the line that its call noted; it goes into the ONNX graph with the node."""
    for node in program.graph.nodes:
        line = node.meta.get("custom", {}).get(LINE)
        if line is not None:
            node.meta["stack_trace"] = line


def _explain(error: Exception, guards: _Guards, sizes: Mapping[int, str]) -> str:
    cause = "\n".join(str(error).strip().splitlines()[:MESSAGE_LINES])
    line = _line_of(error)
    if line is not None:
        what = f"{line} needs a number that only the data give, or fails on symbolic sizes. {_advice(line)}"
    elif guards.fixed:
        return f"{_frozen(guards, sizes)}. torch says: {cause}"
    else:
        what = OTHERWISE
    return f"forward cannot be traced with batch and time free: {what}. torch says: {cause}"


def _frozen(guards: _Guards, sizes: Mapping[int, str]) -> str:
    _, value, line = guards.fixed[0]
    axis = sizes.get(int(value), "a size") if value.isdecimal() else "a size"
    return (
        f"forward cannot be traced with batch and time free: {line} makes {axis} the constant {value} of the trace. "
        f"{_advice(line)}"
    )


def _line_of(error: BaseException | None) -> str | None:
    """Return the user's line where the error, or one that it was made of, was raised."""
    while error is not None:
        line = line_of_frames(traceback.extract_tb(error.__traceback__))
        if line is not None:
            return line
        error = error.__cause__ or error.__context__
    return None


def _code(line: str) -> str:
    return line.split(": ", 1)[1]


def _advice(line: str) -> str:
    return next((advice for pattern, advice in ADVICE if re.search(pattern, _code(line))), OTHERWISE)
