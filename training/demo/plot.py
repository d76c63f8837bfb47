"""The demo's picture: groups of bars in panels, one group per model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = {"PyTorch": "#9aa0a6", "FP32": "#1f77b4", "INT8": "#ff7f0e"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One set of axes.

    Attributes:
        title: what is shown, with its unit.
        bars: value per series (a key of `COLOURS`) and group.
        form: how a value is written on its bar.
    """

    title: str
    bars: Mapping[str, Sequence[float]]
    groups: Sequence[str]
    form: str


def write_plot(panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels side by side into a PNG."""
    figure = Figure(figsize=(4 * len(panels), 3.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        width = 0.8 / len(panel.bars)
        for series, (name, values) in enumerate(panel.bars.items()):
            places = [group + (series - (len(panel.bars) - 1) / 2) * width for group in range(len(values))]
            drawn = axes.bar(places, values, width, label=name, color=COLOURS[name])
            axes.bar_label(drawn, labels=[panel.form.format(value) for value in values], fontsize=7, padding=1)
        axes.set_xticks(range(len(panel.groups)), panel.groups)
        axes.set_title(panel.title, fontsize=10)
        axes.margins(y=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), frameon=False
    )
    figure.savefig(path, dpi=130)
