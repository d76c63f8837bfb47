"""Text from CTC outputs: the file of symbols, and the decodings that the server is to offer."""

from collections.abc import Sequence

import numpy as np

from export.errors import ExportError
from export.model import OnnxModel
from export.runtime import Answer
from export.spec import Ctc
from serving.manifest import BATCH, TIME, CtcDecoding

GREEDY, BEAM = "text", "text_beam"
"""Names of the decoded outputs."""
SUM_TOLERANCE = 1e-3


def read_symbols(ctc: Ctc) -> tuple[str, ...]:
    """Return the text of each class.

    Raises:
        ExportError: the file cannot be read, is not UTF-8, names fewer than two classes or none for the blank, or
            has an empty line that is not the blank's.
    """
    try:
        text = ctc.symbols.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ExportError(f"{ctc.symbols}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{ctc.symbols}: not UTF-8 text ({error})") from error
    symbols = tuple(text.removesuffix("\n").split("\n"))
    if len(symbols) < 2 or ctc.blank >= len(symbols):
        raise ExportError(
            f"{ctc.symbols}: has {len(symbols)} lines, and the blank is class {ctc.blank}; expected one line per "
            "class, in order, the blank's line included (--ctc-blank says which it is)"
        )
    for number, symbol in enumerate(symbols):
        if not symbol and number != ctc.blank:
            raise ExportError(
                f"{ctc.symbols}: line {number + 1} is empty; a symbol needs text (a space is a line with one "
                f"space), and only the blank's line, {ctc.blank + 1}, may be empty"
            )
    return symbols


def decodings(ctc: Ctc, symbols: tuple[str, ...], model: OnnxModel) -> tuple[CtcDecoding, ...]:
    """Return the decodings `text` (best path) and `text_beam` (prefix beam search) of the named output.

    Raises:
        ExportError: no such output, one of another form, another number of classes than symbols, or one of the names
            is taken.
    """
    source = next((tensor for tensor in model.outputs if tensor.name == ctc.output), None)
    if source is None:
        names = [tensor.name for tensor in model.outputs]
        raise ExportError(f"--ctc: the model has no output '{ctc.output}'; its outputs are {names} (--output-names)")
    if source.datatype != "FP32" or len(source.shape) != 3 or source.shape[:2] != (BATCH, TIME):
        raise ExportError(
            f"--ctc: output '{ctc.output}' is {source.datatype} {list(source.shape)}; expected log-probabilities, FP32 "
            "[batch, time, classes]"
        )
    if source.shape[2] != len(symbols):
        raise ExportError(
            f"--ctc: output '{ctc.output}' has {source.shape[2]} classes, {ctc.symbols} has {len(symbols)} lines; "
            "expected one line per class, in order, the blank's line included"
        )
    taken = [tensor.name for tensor in (*model.inputs, *model.outputs) if tensor.name in (GREEDY, BEAM)]
    if taken:
        raise ExportError(
            f"--ctc adds the outputs '{GREEDY}' and '{BEAM}', and the model has its own {taken}; rename them "
            "(--output-names, or forward's parameter)"
        )
    return tuple(
        CtcDecoding(
            name=name,
            source=ctc.output,
            method=method,
            symbols=symbols,
            blank=ctc.blank,
            beam_width=ctc.beam_width,
        )
        for name, method in ((GREEDY, "greedy"), (BEAM, "beam"))
    )


def check_logarithms(ctc: Ctc, answers: Sequence[Answer]) -> None:
    """Refuse probabilities where their logarithms belong: a beam would find other texts, and nothing would say so.

    Scores before the log-softmax are as good as log-probabilities: they differ by a constant per step.

    Raises:
        ExportError: every step of the output is positive and sums to one.
    """
    steps = np.concatenate([answer[ctc.output] for answer in answers])
    if (steps >= 0).all() and np.allclose(steps.sum(axis=1), 1, atol=SUM_TOLERANCE):
        raise ExportError(
            f"--ctc: output '{ctc.output}' holds probabilities (each step sums to 1); let forward return their "
            "logarithms: log_softmax instead of softmax"
        )
