"""The dashboard's first rows: is it serving, is it late, and why."""

from scripts.dashboard.panels import Panel, Row, mean, quantile, ratio

_SERVING = (
    Panel(
        "Replicas",
        "Ready, and all that report.",
        "stat",
        "short",
        (("sum(lstm_ready{<pod>})", "ready"), ("count(lstm_ready{<pod>})", "all")),
        width=4,
    ),
    Panel(
        "Requests per second",
        "Whatever became of them.",
        "stat",
        "reqps",
        (("sum(rate(lstm_requests_total{<version>}[$__rate_interval]))", "requests"),),
        width=4,
    ),
    Panel(
        "Requests that fail",
        "Of the model that fares worst, over 5 minutes. The objective is 0.1 %; red is the pace of a page.",
        "stat",
        "percentunit",
        (("max(namespace_job_model:lstm_requests_failed:ratio_rate5m{<model>})", "failed"),),
        steps=(0.001, 0.0144),
        width=4,
    ),
    Panel(
        "Answers later than 0.25 s",
        "Of the model that fares worst, over 5 minutes. The objective is 1 %; red is the pace of a page.",
        "stat",
        "percentunit",
        (("max(namespace_job_model:lstm_answers_late:ratio_rate5m{<model>})", "late"),),
        steps=(0.01, 0.144),
        width=4,
    ),
    Panel(
        "Alerts that fire",
        "What each means, and what to do: docs/alerts.md.",
        "table",
        "short",
        (
            (
                (
                    'count by (alertname, severity, model, pod) (ALERTS{alertname=~"Lstm.*", alertstate="firing", '
                    'namespace=~"$namespace|"})'
                ),
                "",
            ),
        ),
    ),
    Panel(
        "Requests by outcome",
        "How many, how many fail, and why?",
        "stacked",
        "reqps",
        (("sum by (outcome) (rate(lstm_requests_total{<version>}[$__rate_interval]))", "{{outcome}}"),),
        width=12,
    ),
    Panel(
        "Burn rate of the error budget",
        "At 1 the budget of 30 days lasts for them. A person is called at 14.4 over an hour, or 6 over six hours.",
        "timeseries",
        "short",
        (
            ("namespace_job_model:lstm_requests_failed:ratio_rate1h{<model>} / 0.001", "{{model}} 1 h"),
            ("namespace_job_model:lstm_requests_failed:ratio_rate6h{<model>} / 0.001", "{{model}} 6 h"),
            ("namespace_job_model:lstm_requests_failed:ratio_rate3d{<model>} / 0.001", "{{model}} 3 d"),
        ),
        steps=(1.0, 6.0),
        width=12,
    ),
)
_LATE = (
    Panel(
        "Answers: 50, 90, 99 %",
        "How long do callers wait? Nothing is known between the buckets' edges, nor beyond 10 s.",
        "timeseries",
        "s",
        (
            (quantile(0.5, "lstm_request_seconds", of="answers"), "50 %"),
            (quantile(0.9, "lstm_request_seconds", of="answers"), "90 %"),
            (quantile(0.99, "lstm_request_seconds", of="answers"), "99 %"),
        ),
        steps=(0.25,),
    ),
    Panel(
        "Answers by model: 99 %",
        "Whose callers wait?",
        "timeseries",
        "s",
        ((quantile(0.99, "lstm_request_seconds", by="model", of="answers"), "{{model}}"),),
        steps=(0.25,),
    ),
    Panel(
        "Durations of answers",
        "Two kinds of requests, or one slow replica, show as two bands.",
        "heatmap",
        "s",
        (("sum by (le) (increase(lstm_request_seconds_bucket{<answers>}[$__rate_interval]))", "{{le}}"),),
    ),
)
_WHY = (
    Panel(
        "Mean answer, and its time in the queue",
        "Is it the queue that makes callers wait?",
        "timeseries",
        "s",
        (
            (mean("lstm_request_seconds", of="answers"), "{{model}} answer"),
            (mean("lstm_queue_delay_seconds"), "{{model}} in the queue"),
        ),
    ),
    Panel(
        "Engine calls: mean and 99 %",
        "How long does computing take? A request of a stepwise model takes several calls.",
        "timeseries",
        "s",
        (
            (mean("lstm_engine_run_seconds"), "{{model}} mean"),
            (quantile(0.99, "lstm_engine_run_seconds", by="model"), "{{model}} 99 %"),
        ),
    ),
    Panel(
        "Queue delay by replica: 99 %",
        "One replica alone has other work, less CPU, or more than its share of connections.",
        "timeseries",
        "s",
        ((quantile(0.99, "lstm_queue_delay_seconds", by="pod"), "{{pod}}"),),
    ),
    Panel(
        "Rows that wait, and that run",
        "How much waits?",
        "timeseries",
        "short",
        (
            ("sum by (model) (lstm_queue_rows{<version>})", "{{model}} wait"),
            ("sum by (model) (lstm_running_rows{<version>})", "{{model}} run"),
        ),
        width=12,
    ),
    Panel(
        "Engine calls' time that is not the engine's",
        "Gathering rows into tensors, and moving outputs into answers.",
        "timeseries",
        "percentunit",
        (
            (ratio("lstm_pack_seconds_total{<version>}", "lstm_engine_run_seconds_sum{<version>}"), "{{model}} gather"),
            (
                ratio("lstm_scatter_seconds_total{<version>}", "lstm_engine_run_seconds_sum{<version>}"),
                "{{model}} move",
            ),
        ),
        width=12,
    ),
)

ROWS = (
    Row("Is it serving?", _SERVING),
    Row("Is it late?", _LATE),
    Row("Why: queue or engine?", _WHY),
)
