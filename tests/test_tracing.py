"""What begins a trace, for any metadata that a client may send."""

import string
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.clock import SystemClock
from serving.tracing import OpenTelemetry

HEX = "0123456789abcdef"
VALUES = (
    st.text(alphabet=string.printable[:95], max_size=600)
    | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True)
    | st.binary(max_size=20)
)
METADATA = st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "user-agent"]), VALUES), max_size=5)


@pytest.fixture(scope="module")
def tracer() -> Iterator[OpenTelemetry]:
    """One that keeps all; nothing is sent, because no span is ended."""
    made = OpenTelemetry("http://127.0.0.1:9/v1/traces", sample_ratio=1.0, clock=SystemClock())
    yield made
    made.close()


@given(metadata=METADATA)
def test_whatever_a_client_sends_a_request_has_a_trace_or_none(
    tracer: OpenTelemetry, metadata: list[tuple[str, str | bytes]]
) -> None:
    """None only for what a good parent says is not sampled; an id of zeros is no parent."""
    trace = tracer.begin("package.Service/Method", metadata, began_ns=0)

    parents = [value for key, value in metadata if key == "traceparent" and isinstance(value, str)]
    if trace is None:
        assert int(parents[0].rpartition("-")[2][:2], 16) % 2 == 0
    else:
        assert len(trace.trace_id) == 32
        assert set(trace.trace_id) <= set(HEX)
        assert int(trace.trace_id, 16)


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_good_parent_is_followed(tracer: OpenTelemetry, flags: str) -> None:
    parent = f"00-{'12' * 16}-{'34' * 8}-{flags}"

    trace = tracer.begin("package.Service/Method", [("traceparent", parent)], began_ns=0)

    assert (trace and trace.trace_id) == (None if flags == "00" else "12" * 16)
