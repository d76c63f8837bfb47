"""What a panel of the dashboard is, and the PromQL that many of them share.

Selectors are written short: `{<version>}` is expanded to the labels that the dashboard's variables choose.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "timeseries", "stacked", "heatmap", "table"]
_POD = 'namespace="$namespace", pod=~"$pod"'
_VERSION = f'{_POD}, model=~"$model", version=~"$version"'
SELECTORS = {
    "pod": _POD,
    "process": f'job="lstm-serve", {_POD}',
    "version": _VERSION,
    "answers": f'{_VERSION}, outcome="ok"',
    "model": 'namespace="$namespace", model=~"$model"',
}


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: of it.
        description: which question it answers, or how to read it.
        kind: of the picture.
        unit: of its values, by Grafana's name for it.
        queries: short expressions, each with its legend.
        steps: bounds from which values are yellow, and red; a single one is red.
        width: in 24ths of the page.
    """

    title: str
    description: str
    kind: Kind
    unit: str
    queries: tuple[tuple[str, str], ...]
    steps: tuple[float, ...] = ()
    width: int = 8


@dataclass(frozen=True)
class Row:
    """A question, and the panels that answer it."""

    question: str
    panels: tuple[Panel, ...]


def expanded(short: str) -> str:
    """Return an expression with the labels of its short selectors."""
    return re.sub(r"<(\w+)>", lambda name: SELECTORS[name[1]], short)


def mean(histogram: str, *, by: str = "model", of: str = "version") -> str:
    """Return the mean of a histogram's values; the sums of replicas are added before they are divided."""
    return ratio(f"{histogram}_sum{{<{of}>}}", f"{histogram}_count{{<{of}>}}", by=by)


def ratio(part: str, whole: str, *, by: str = "model") -> str:
    """Return the ratio of two rates."""
    return f"sum by ({by}) (rate({part}[$__rate_interval])) / sum by ({by}) (rate({whole}[$__rate_interval]))"


def quantile(share: float, histogram: str, *, by: str = "", of: str = "version") -> str:
    """Return a quantile over all replicas: their buckets are added, as quantiles could not be averaged."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{{<{of}>}}[$__rate_interval])))"
