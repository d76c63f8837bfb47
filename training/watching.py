"""Who looks on while a model trains: a progress bar on the console and, when asked for, TensorBoard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from training.errors import TrainingError
from training.loop import Epoch

Watch: TypeAlias = Callable[[Epoch], None]


@contextmanager
def progress_bar(name: str, *, epochs: int, console: Console) -> Iterator[Watch]:
    """Give a watch that shows each epoch's numbers, with a bar that is full after `epochs`."""
    columns = (TextColumn(name), BarColumn(bar_width=12), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("first epoch", total=epochs)

        def show(epoch: Epoch) -> None:
            numbers = (
                f"loss {epoch.loss:.4f}  validation {epoch.validation_loss:.4f}  "
                f"gradient norm {epoch.gradient_norm_mean:.2f}"
            )
            progress.update(task, completed=epoch.number, description=numbers)

        yield show


@contextmanager
def tensorboard_log(directory: Path) -> Iterator[Watch]:
    """Give a watch that writes each epoch's numbers into `directory` for TensorBoard.

    Raises:
        TrainingError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  an extra that few runs need
    except ImportError as error:
        raise TrainingError(
            f'--tensorboard needs tensorboard, which is not installed ({error}): pip install -e ".[tensorboard]"'
        ) from error
    with SummaryWriter(directory) as writer:

        def write(epoch: Epoch) -> None:
            scalars = {
                "loss/training": epoch.loss,
                "loss/validation": epoch.validation_loss,
                "gradient_norm/mean": epoch.gradient_norm_mean,
                "gradient_norm/max": epoch.gradient_norm_max,
                "learning_rate": epoch.learning_rate,
            }
            for name, value in scalars.items():
                writer.add_scalar(name, value, epoch.number)

        yield write
