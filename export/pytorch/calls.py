"""Forward's calls of torch in a trace: each is told its line, and a few are put in a form that can be traced."""

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.fx.traceback import annotate
from torch.nn import functional as F  # noqa: N812  torch's own abbreviation
from torch.overrides import TorchFunctionMode

from export.pytorch.lines import is_users

LINE = "line"
"""Key of a node's annotation: the stack frame of the user's line, as Python writes it."""


class NotedCalls(TorchFunctionMode):
    """Notes on each traced node the line of the user's that it comes from.

    torch's own notes leave out functions of other names than `forward`, which are where users put their code.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  of the protocol
        """Run a call under its line."""
        if torch.compiler.is_dynamo_compiling():  # the body of a scan or while_loop, which torch traces by itself
            return func(*args, **(kwargs or {}))
        func = TRACEABLE.get(func, func)
        frames = (frame for frame, _ in traceback.walk_stack(inspect.currentframe()))
        frame = next((frame for frame in frames if is_users(frame.f_code.co_filename)), None)
        if frame is None:
            return func(*args, **(kwargs or {}))
        place = traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        with annotate({LINE: "".join(traceback.format_list([place]))}):
            return func(*args, **(kwargs or {}))


def _max_pool1d(  # noqa: PLR0913, PLR0917  torch's signature
    input: Tensor,  # noqa: A002  torch's name, which callers may use
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002  torch's signature
    return_indices: bool = False,  # noqa: FBT001, FBT002
) -> Tensor | tuple[Tensor, Tensor]:
    """Return what torch's does; its kernel without gradients makes a number of every size."""
    if return_indices:
        return F.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    kernel, step, pad, gap = (
        number[0] if isinstance(number, (tuple, list)) else number
        for number in (kernel_size, stride or kernel_size, padding, dilation)
    )
    if statically_known_true(kernel == input.shape[-1]):
        return input.amax(-1, keepdim=True)
    wide = F.max_pool2d(input.unsqueeze(-2), (1, kernel), (1, step), (0, pad), (1, gap), ceil_mode)
    return wide.squeeze(-2)


def _avg_pool1d(
    input: Tensor,  # noqa: A002  as above
    kernel_size: int | tuple[int],
    *args: Any,  # noqa: ANN401  handed on as they are
    **kwargs: Any,  # noqa: ANN401
) -> Tensor:
    """Return what torch's does; a window as long as the sequence is a mean, which takes any length."""
    kernel = kernel_size[0] if isinstance(kernel_size, (tuple, list)) else kernel_size
    if statically_known_true(kernel == input.shape[-1]):
        return input.mean(-1, keepdim=True)
    return F.avg_pool1d(input, kernel_size, *args, **kwargs)


TRACEABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    F.max_pool1d: _max_pool1d,
    torch.max_pool1d: _max_pool1d,
    F.avg_pool1d: _avg_pool1d,
}
