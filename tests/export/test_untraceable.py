"""A forward that cannot be traced is told the line that stands in the way, and what to write instead."""

import logging

import pytest
import torch
from torch import nn

from export.errors import ExportError
from export.pytorch.lines import is_users, line_of_trace, show_line
from tests.export import untraceable_models as models
from tests.export.padding_models import HIDDEN, line_of
from tests.export.support import exported
from tests.export.untraceable_models import Untraceable


@pytest.mark.parametrize(
    ("factory", "code", "what", "advice"),
    [
        (models.LoopOverLongest, "for t in range(int(", "a number that only the data give", "export.modules"),
        (models.ListOfLengths, "lengths.tolist()", "makes batch the constant 3", "nn.LSTM"),
        (models.Item, "int(longest)", "a number that only the data give", "keep the tensor"),
        (models.Condition, "if y.sum()", "a number that only the data give", "torch.where"),
        (models.ConditionOnSize, "if y.size(1) > 5", "decides by a size", "torch.where"),
        (models.FrozenBatch, "len(lengths)", "makes batch the constant 3", "len(x) for x.shape[0]"),
        (models.FixedBatch, "y.reshape(3", "makes batch the constant 3", "-1 for one of them"),
        (models.RootOfSize, "math.sqrt", "makes time the constant 7", "n ** 0.5"),
        (models.PooledIntoParts, "adaptive_avg_pool1d", "pools time into several parts", "a strided convolution"),
        (models.NoOnnxForm, "matrix_exp", "has no ONNX form", "linalg_matrix_exp"),
    ],
)
def test_the_error_names_the_line_and_the_way_out(
    factory: type[Untraceable], code: str, what: str, advice: str
) -> None:
    with pytest.raises(ExportError) as caught:
        exported(factory)

    message = str(caught.value)
    assert line_of(factory.read, code) in message
    assert what in message
    assert advice in message


def test_a_loop_over_cells_is_pointed_to_layers() -> None:
    """`for t in range(x.size(1))` around a cell: torch names no line, its log of guards has the stack."""
    with pytest.raises(ExportError) as caught:
        exported(models.Loop)

    assert f"{line_of(models.Loop.forward, 'for t in')} makes time the constant 7 of the trace" in str(caught.value)
    assert "Use nn.LSTM, nn.GRU or nn.RNN instead of a loop over cells" in str(caught.value)


def test_an_assertion_about_sizes_does_not_stand_in_the_way() -> None:
    """It decides nothing that the graph holds."""
    runtime, _ = exported(models.Asserting)

    assert [tensor.shape for tensor in runtime.model.outputs] == [("batch", "time", HIDDEN)]


def test_tracing_leaves_torchs_log_as_it_was() -> None:
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before = (logger.level, logger.propagate, list(logger.handlers))

    exported(models.Asserting)

    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_lines_are_the_users_own_and_never_absolute() -> None:
    trace = (
        f'File "/somewhere/net.py", line 7, in forward\n    y = self.read(x)\n'
        f'  File "{torch.__file__}", line 3, in sum\n    return 1\n'
        f'  File "{nn.__file__}", line 3, in __call__\n    return 2\n'
    )

    assert line_of_trace(trace) == "net.py:7: y = self.read(x)"
    assert line_of_trace("no frames") is None
    assert not is_users("<string>")
    assert show_line(__file__, 3, "  code  ").endswith("test_untraceable.py:3: code")
