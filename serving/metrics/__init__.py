"""What the server counts and times, for Prometheus. The only importer of prometheus_client besides `serving.app`.

Names begin with `lstm_` and end with their base unit (seconds, rows, steps, ratio; `_total` for counters). Labels are
model, version and outcome; never anything that a client chooses. `docs/metrics.md` lists them all, and a test compares.
"""

from serving.metrics.families import SECONDS_BUCKETS
from serving.metrics.server import ServerMetrics

__all__ = ["SECONDS_BUCKETS", "ServerMetrics"]
