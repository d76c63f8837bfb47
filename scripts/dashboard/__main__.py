"""Write `deploy/components/monitoring/dashboard.json` from the rows, with Grafana's own builders."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from scripts.dashboard import answers, capacity
from scripts.dashboard.panels import Kind, Panel, expanded

FILE = Path(__file__).resolve().parents[2] / "deploy/components/monitoring/dashboard.json"
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
"""Of a panel, in rows of Grafana's grid."""
COLOURS = ("yellow", "red")
LABELS = {"pod": "lstm_ready", "model": "lstm_requests_total", "version": "lstm_requests_total"}
"""Variables whose values are all taken unless some are chosen, and the metric that has them."""
BUILDERS: dict[Kind, Callable[[], timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel]] = {
    "stat": stat.Panel,
    "timeseries": timeseries.Panel,
    "stacked": timeseries.Panel,
    "heatmap": heatmap.Panel,
    "table": table.Panel,
}


def text() -> str:
    """Return the dashboard as JSON."""
    built = (
        dashboard.Dashboard("lstm-serve")
        .uid("lstm-serve")
        .description("What a person on call asks, in order: is it serving, is it late, why, is it full.")
        .tags(["lstm-serve"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-1h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_labels("namespace", "lstm_ready"))
    )
    for name, metric in LABELS.items():
        built.with_variable(
            _labels(name, metric, 'namespace="$namespace"').multi(True).include_all(True).all_value(".*")
        )
    numbers = count(1)  # links lead to panels by them
    for row in (*answers.ROWS, *capacity.ROWS):
        built.with_row(dashboard.Row(row.question).id(next(numbers)))
        for panel in row.panels:
            built.with_panel(_panel(panel).id(next(numbers)))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _labels(name: str, metric: str, selector: str = "") -> dashboard.QueryVariable:
    selected = f"{metric}{{{selector}}}" if selector else metric
    return (
        dashboard.QueryVariable(name)
        .datasource(PROMETHEUS)
        .query(f"label_values({selected}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel:
    builder = BUILDERS[panel.kind]()
    builder.title(panel.title).description(panel.description).datasource(PROMETHEUS).unit(panel.unit)
    builder.span(panel.width).height(HEIGHT)
    for letter, (query, legend) in zip(ascii_uppercase, panel.queries, strict=False):
        builder.with_target(_target(panel.kind, query, legend).ref_id(letter))
    if panel.steps:
        colours = COLOURS[-len(panel.steps) :]
        steps = [
            Threshold(color="green"),
            *(Threshold(value, colour) for value, colour in zip(panel.steps, colours, strict=True)),
        ]
        builder.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if isinstance(builder, timeseries.Panel):
        builder.min(0).fill_opacity(10).show_points(common_models.VisibilityMode.NEVER)
        if panel.steps:
            builder.thresholds_style(
                common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.LINE)
            )
        if panel.kind == "stacked":
            builder.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if isinstance(builder, heatmap.Panel):
        builder.y_axis(heatmap.YAxisConfig().unit(panel.unit))
    return builder


def _target(kind: Kind, query: str, legend: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(expanded(query)).legend_format(legend).datasource(PROMETHEUS)
    if kind == "table":
        return target.instant().format(PromQueryFormat.TABLE)
    return target.range().format(PromQueryFormat.HEATMAP if kind == "heatmap" else PromQueryFormat.TIME_SERIES)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
