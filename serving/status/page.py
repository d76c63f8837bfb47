"""`/metrics`, read over plain HTTP as a scraper does."""

import time
from http.client import HTTPConnection, HTTPException

from prometheus_client.parser import text_string_to_metric_families

from serving.status.errors import NoMetrics
from serving.status.figures import Moment, Sample
from serving.status.target import Target

SECONDS = 5.0
"""That one answer may let wait for its next byte."""
MOST_BYTES = 64 * 2**20
"""Of a page; a server with a thousand versions shows a quarter of it."""


def read(target: Target) -> Moment:
    """Return what the page shows now.

    Raises:
        NoMetrics: there is none, or it is another program's.
    """
    connection = HTTPConnection(target.host, target.metrics_port, timeout=SECONDS)
    try:
        connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
        response = connection.getresponse()
        content = response.read(MOST_BYTES)
        at_seconds = time.monotonic()
    except OSError as error:
        raise NoMetrics(f"{target.metrics_url}: {_reason(error)}") from error
    except HTTPException as error:
        raise NoMetrics(f"{target.metrics_url}: what answers there does not speak HTTP") from error
    finally:
        connection.close()
    if response.status != 200:
        raise NoMetrics(f"{target.metrics_url}: answers with HTTP status {response.status}")
    moment = Moment(_samples(content, target), at_seconds=at_seconds)
    if not any(name.startswith("lstm_") for name, _ in moment.values):
        raise NoMetrics(f"{target.metrics_url}: has no metrics of lstm-serve")
    return moment


def _samples(content: bytes, target: Target) -> list[Sample]:
    try:
        families = list(text_string_to_metric_families(content.decode()))
    except ValueError as error:
        raise NoMetrics(f"{target.metrics_url}: is no page of metrics") from error
    return [Sample(each.name, each.labels, each.value) for family in families for each in family.samples]


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    return (error.strerror or str(error) or type(error).__name__).lower()
