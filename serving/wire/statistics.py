"""ModelStatistics: what was counted of each model version, in Triton's messages.

A duration's count is of what it times: requests for success, fail and queue; engine calls for the three parts of
computing, since the requests of a batch share them. There is no cache, so its durations are absent.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from serving._proto import open_inference_pb2 as oip
from serving.clock import NANOSECONDS_PER_SECOND
from serving.statistics import Total, VersionStatistics

MILLISECONDS_PER_SECOND = 1000


class StatisticsSource(Protocol):
    """Tells what was counted."""

    def statistics(self) -> Sequence[VersionStatistics]:
        """Return the totals of every version that is reported on, by name and number."""


def statistics_response(totals: Iterable[VersionStatistics], *, name: str, version: str) -> oip.ModelStatisticsResponse:
    """Return the answer of a model's totals.

    Args:
        totals: of all versions.
        name: of the model that is asked for; empty for all.
        version: of it; empty for all.
    """
    return oip.ModelStatisticsResponse(
        model_stats=[
            _model_statistics(each) for each in totals if name in {"", each.model} and version in {"", each.version}
        ]
    )


def _model_statistics(total: VersionStatistics) -> oip.ModelStatistics:
    return oip.ModelStatistics(
        name=total.model,
        version=total.version,
        last_inference=int(total.last_ok_seconds * MILLISECONDS_PER_SECOND),
        inference_count=total.rows,
        execution_count=total.engine_calls,
        inference_stats=oip.InferStatistics(
            success=_duration(total.success),
            fail=_duration(total.fail),
            queue=_duration(total.queue),
            compute_input=_duration(total.pack),
            compute_infer=_duration(total.engine),
            compute_output=_duration(total.scatter),
        ),
    )


def _duration(total: Total) -> oip.StatisticDuration:
    return oip.StatisticDuration(count=total.count, ns=round(total.seconds * NANOSECONDS_PER_SECOND))
