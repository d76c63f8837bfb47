"""The dashboard's other rows: is it full, does batching pay, what is loaded, and how the processes are."""

from scripts.dashboard.panels import Panel, Row, mean, ratio

_FULL = (
    Panel(
        "Backlog of each replica",
        "Seconds of accepted work. Replicas are added by it; red is what autoscaling aims at.",
        "timeseries",
        "s",
        (("sum by (pod) (lstm_backlog_seconds{<pod>})", "{{pod}}"),),
        steps=(0.05,),
    ),
    Panel(
        "CPU of the budget",
        "The budget is the cgroup's quota, or without one the threads of an engine call. Autoscaling aims at 65 %.",
        "timeseries",
        "percentunit",
        (
            (
                (
                    "rate(process_cpu_seconds_total{<process>}[$__rate_interval])"
                    " / (lstm_cpu_quota_cores{<process>} or lstm_cpu_threads{<process>})"
                ),
                "{{pod}}",
            ),
        ),
        steps=(0.65, 0.95),
    ),
    Panel(
        "Engine calls at a time",
        "Near the models' instances, there is no time left.",
        "timeseries",
        "short",
        (("sum by (pod) (rate(lstm_engine_run_seconds_sum{<version>}[$__rate_interval]))", "{{pod}}"),),
    ),
    Panel(
        "Refused for load",
        "Those without a model were refused unread.",
        "timeseries",
        "reqps",
        (
            (
                (
                    "sum by (model, outcome) (rate(lstm_requests_total{<version>, "
                    'outcome=~"queue_full|overload|client_limit"}[$__rate_interval]))'
                ),
                "{{model}} {{outcome}}",
            ),
        ),
        width=12,
    ),
    Panel(
        "Rows accepted that are not done",
        "How much is promised?",
        "timeseries",
        "short",
        (("sum by (model) (lstm_live_rows{<version>})", "{{model}}"),),
        width=12,
    ),
)
_BATCHING = (
    Panel(
        "Rows of an engine call",
        "Do requests share calls?",
        "timeseries",
        "short",
        ((mean("lstm_batch_rows"), "{{model}}"),),
    ),
    Panel(
        "Occupancy of engine calls",
        "Of the rows that calls might have had, how many they had. Low is waste only while rows wait.",
        "timeseries",
        "percentunit",
        ((mean("lstm_batch_occupancy_ratio"), "{{model}}"),),
    ),
    Panel(
        "Steps that are padding",
        "What does it cost that a call's rows differ in length? Native versions compute no padding.",
        "timeseries",
        "percentunit",
        (
            (
                "1 - " + ratio("lstm_batch_steps_sum{<version>}", "lstm_batch_padded_steps_total{<version>}"),
                "{{model}}",
            ),
        ),
    ),
    Panel(
        "Sequences per second",
        "Rows computed whole, of requests that still wanted them.",
        "timeseries",
        "ops",
        (("sum by (model) (rate(lstm_rows_total{<version>}[$__rate_interval]))", "{{model}}"),),
    ),
    Panel(
        "Time measured over time predicted",
        "Above 1, deadlines are missed that were accepted; below 1, requests are refused that could be served.",
        "timeseries",
        "short",
        (
            (
                ratio("lstm_cost_measured_seconds_total{<version>}", "lstm_cost_predicted_seconds_total{<version>}"),
                "{{model}}",
            ),
        ),
        steps=(1.5,),
    ),
    Panel(
        "Predictions off by more than a quarter",
        "The share of engine calls.",
        "timeseries",
        "percentunit",
        (
            (
                (
                    '1 - (sum by (model) (rate(lstm_cost_error_ratio_bucket{<version>, le="1.25"}[$__rate_interval]))'
                    ' - sum by (model) (rate(lstm_cost_error_ratio_bucket{<version>, le="0.8"}[$__rate_interval])))'
                    " / sum by (model) (rate(lstm_cost_error_ratio_count{<version>}[$__rate_interval]))"
                ),
                "{{model}}",
            ),
        ),
    ),
)
_MODELS = (
    Panel(
        "Versions that serve",
        "On how many replicas, with which precision, computed by what?",
        "table",
        "short",
        (("count by (model, version, precision, engine) (lstm_model_info{<version>})", ""),),
    ),
    Panel(
        "Loads since the processes began",
        "Did a rollout fail?",
        "table",
        "short",
        (('sum by (model, outcome) (lstm_model_loads_total{<pod>, model=~"$model"})', ""),),
    ),
    Panel(
        "Since a version was last used",
        "Does anybody still use it?",
        "timeseries",
        "s",
        (
            (
                "time() - max by (model, version) (lstm_last_request_timestamp_seconds{<version>} > 0)",
                "{{model}} {{version}}",
            ),
        ),
    ),
    Panel(
        "Mean time of a load",
        "Reading, checking and warming up one version, since the processes began.",
        "timeseries",
        "s",
        (
            (
                (
                    'sum by (model) (lstm_model_load_seconds_sum{<pod>, model=~"$model"})'
                    ' / sum by (model) (lstm_model_load_seconds_count{<pod>, model=~"$model"})'
                ),
                "{{model}}",
            ),
        ),
        width=12,
    ),
    Panel(
        "Engine calls that failed",
        "Their rows are run again one by one.",
        "timeseries",
        "ops",
        (
            (
                "sum by (model, version) (rate(lstm_batch_failures_total{<version>}[$__rate_interval]))",
                "{{model}} {{version}}",
            ),
        ),
        width=12,
    ),
)
_PROCESSES = (
    Panel("Memory", "Does it leak?", "timeseries", "bytes", (("process_resident_memory_bytes{<process>}", "{{pod}}"),)),
    Panel(
        "Open files and sockets",
        "Of those that the process may have. Nearly all are connections.",
        "timeseries",
        "percentunit",
        (("process_open_fds{<process>} / process_max_fds{<process>}", "{{pod}}"),),
        steps=(0.8,),
    ),
    Panel(
        "Since the start",
        "Did it restart?",
        "timeseries",
        "s",
        (("time() - process_start_time_seconds{<process>}", "{{pod}}"),),
    ),
    Panel(
        "Lines of the log that are lost",
        "Is the log whole?",
        "timeseries",
        "ops",
        (("rate(lstm_log_lines_lost_total{<pod>}[$__rate_interval])", "{{pod}}"),),
        width=12,
    ),
    Panel(
        "What runs",
        "Which releases, half-way through an update?",
        "table",
        "short",
        (("count by (version, onnxruntime_version) (lstm_build_info{<pod>})", ""),),
        width=12,
    ),
)

ROWS = (
    Row("Is it full?", _FULL),
    Row("Does batching pay?", _BATCHING),
    Row("What is loaded?", _MODELS),
    Row("How are the processes?", _PROCESSES),
)
