"""Requests that the library keeps, through a real runner: alone, in company of Python's own, failed and handed back."""

import re
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving._proto import open_inference_pb2 as oip
from serving.manifest import Manifest, read_manifest
from serving.wire.native.inbox import AT_A_TIME
from tests.runner.house import POISON, WIDTH
from tests.support.artefacts import FEATURES, write_lstm
from tests.support.front import needs_front
from tests.wire.native.kept import Kept

pytestmark = needs_front

MS = 1_000_000
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@pytest.fixture(scope="module", params=["whole", "stepwise"])
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    stepwise = request.param == "stepwise"
    return read_manifest(write_lstm(tmp_path_factory.mktemp("models"), bidirectional=False, stepwise=stepwise))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(st.tuples(st.booleans(), LENGTHS), min_size=1, max_size=12))
def test_each_gets_its_own_sums_whoever_keeps_the_others(
    manifest: Manifest, requests: list[tuple[bool, list[int]]]
) -> None:
    with Kept(manifest) as kept:
        sent = [
            kept.offered(value, lengths=lengths) if by_library else kept.house.put(value, lengths=lengths)
            for value, (by_library, lengths) in enumerate(requests, 1)
        ]
        kept.house.run_all()

        for value, (request, (_, lengths)) in enumerate(zip(sent, requests, strict=True), 1):
            totals = request.totals() if callable(request.totals) else request.totals
            np.testing.assert_allclose(totals, [value * FEATURES * length for length in lengths])


def test_an_answer_has_every_output_and_zeros_beyond_each_length(manifest: Manifest) -> None:
    with Kept(manifest) as kept:
        offered = kept.offered(2.0, lengths=(1, 3))
        kept.house.run_all()
        answer = offered.answer()

    outputs = {output.name: output for output in answer.outputs}
    assert (answer.model_name, answer.model_version, answer.id) == (manifest.name, "1", "2")
    assert outputs.keys() == {"steps", "last"} | ({"state"} if manifest.stepwise else set())
    assert list(outputs["steps"].shape) == [2, 3, WIDTH]
    steps = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(2, 3, WIDTH)
    np.testing.assert_allclose(steps[:, :, 0], 2 * FEATURES * np.array([[1, 0, 0], [1, 2, 3]]))


def test_more_than_one_look_returns_are_all_taken(manifest: Manifest) -> None:
    with Kept(manifest, max_rows=64) as kept:
        offered = [kept.offered(value) for value in range(1, 2 * AT_A_TIME + 10)]
        kept.house.run_all()
        assert [each.totals() for each in offered] == [
            [2.0 * FEATURES * value] for value in range(1, 2 * AT_A_TIME + 10)
        ]


def test_one_that_the_engine_cannot_take_fails_alone(manifest: Manifest) -> None:
    with Kept(manifest) as kept:
        labels = {"model": manifest.name, "version": "1"}
        kept.metrics.of_model(**labels)
        good, bad, other = kept.offered(1.0), kept.offered(POISON), kept.house.put(2.0)
        kept.house.run_all()

        assert good.totals() == [2.0 * FEATURES]
        assert other.totals == [4.0 * FEATURES]
        assert b"failed on this request; the server's log has it as" in bad.collect()
        failed = kept.metrics.registry.get_sample_value("lstm_requests_total", {**labels, "outcome": "internal"})
        assert failed == 1


def test_a_deadline_that_has_passed_is_told(manifest: Manifest) -> None:
    with Kept(manifest) as kept:
        kept.house.clock.ns = time.monotonic_ns()
        late = kept.offered(1.0, deadline_ns=kept.house.clock.ns + 10**9)
        kept.house.runner.take()
        kept.house.clock.ns += 2 * 10**9
        kept.house.runner.expire()

        assert late.collect() == b"the deadline passed before the answer was ready"


def test_a_full_queue_refuses_at_once(manifest: Manifest) -> None:
    with Kept(manifest, max_queue_rows=256) as kept:
        fitting = kept.offered(1.0, lengths=[1] * 256)
        beyond = kept.offered(2.0)
        kept.house.runner.take()

        assert b"the queue of model" in beyond.collect()
        kept.house.run_all()
        assert len(fitting.totals()) == 256


def test_what_a_version_on_its_way_out_has_not_begun_is_handed_back_as_it_came(manifest: Manifest) -> None:
    with Kept(manifest) as kept:
        begun = kept.offered(1.0)
        while kept.house.batcher.live_tickets == 0:
            kept.house.runner.take()
        kept.house.batcher.drain()
        late = kept.offered(3.0, lengths=(1, 2))
        kept.house.run_all()
        assert begun.totals() == [2.0 * FEATURES]
        message = oip.ModelInferRequest.FromString(late.collect())
        assert (message.id, list(message.inputs[0].shape)) == ("3", [2, 2, FEATURES])

        kept.house.runner.drain()
        assert kept.offer(4.0) is None


def test_what_was_counted_is_on_the_page_beside_what_python_counts(manifest: Manifest) -> None:
    with Kept(manifest) as kept:
        labels = {"model": manifest.name, "version": "1"}
        kept.metrics.of_model(**labels)
        kept.metrics.request_ended(**labels, outcome="ok", seconds=0.2)
        for value in (1.0, 2.0):
            kept.offered(value)
        kept.house.run_all()

        value = kept.metrics.registry.get_sample_value
        assert value("lstm_requests_total", {**labels, "outcome": "ok"}) == 3
        assert value("lstm_request_seconds_count", {**labels, "outcome": "ok"}) == 3
        assert value("lstm_request_seconds_bucket", {**labels, "outcome": "ok", "le": "+Inf"}) == 3
        assert value("lstm_queue_delay_seconds_count", labels) == 2
        assert value("lstm_last_request_timestamp_seconds", labels)
        (version,) = kept.metrics.statistics()
        assert (version.success.count, version.queue.count) == (3, 2)

        kept.metrics.forget(**labels)
        kept.metrics.of_model(**labels)
        assert value("lstm_requests_total", {**labels, "outcome": "ok"}) == 0


def test_what_asks_for_no_less_than_what_was_refused_is_refused_without_the_runner(manifest: Manifest) -> None:
    """Until the work becomes less; who asks for less, or has more time, goes to the runner all the same."""
    with Kept(manifest, max_rows=1) as kept:
        kept.house.cost.warm_start([(1, 1, 0.1), (1, 9, 0.9)])
        deadline_ns = kept.house.clock.now_ns() + 1500 * MS
        accepted = kept.offered(1, lengths=[9], deadline_ns=deadline_ns - 500 * MS)
        refused = kept.offered(2, lengths=[9], deadline_ns=deadline_ns)
        kept.house.runner.take()
        alike = [kept.offered(3, lengths=[steps], deadline_ns=deadline_ns + MS) for steps in (9, 12)]
        others = [kept.offered(4, lengths=[1]), kept.offered(5, lengths=[9], deadline_ns=deadline_ns + 5000 * MS)]

        told, ms = _retry_ms(refused.collect())
        for offered in alike:
            assert _retry_ms(offered.collect()) == (told, ms - 1)
        kept.house.run_all()
        assert [offered.totals() for offered in (accepted, *others)] == [
            [value * steps * FEATURES] for value, steps in ((1, 9), (4, 1), (5, 9))
        ]
        assert kept.offered(7, lengths=[9], deadline_ns=kept.house.clock.now_ns() + 1500 * MS)
        kept.house.run_all()


def test_a_request_that_leaves_ends_what_was_held_off_for_it(manifest: Manifest) -> None:
    with Kept(manifest, max_rows=1) as kept:
        kept.house.cost.warm_start([(1, 1, 0.1), (1, 9, 0.9)])
        deadline_ns = kept.house.clock.now_ns() + 1500 * MS
        kept.offered(1, lengths=[9], deadline_ns=deadline_ns - 500 * MS)
        refused = kept.offered(2, lengths=[9], deadline_ns=deadline_ns)
        kept.house.runner.take()
        assert "seconds of work already" in refused.collect().decode()

        kept.house.runner.cancel(1)

        taken = kept.offered(3, lengths=[9], deadline_ns=deadline_ns)
        kept.house.run_all()
        assert taken.totals() == [3 * 9 * FEATURES]


def test_a_request_that_expires_ends_what_was_held_off_for_it(manifest: Manifest) -> None:
    """Nothing is left that would be too much: what comes then is the runner's to decide on, which runs it."""
    with Kept(manifest, max_rows=1) as kept:
        kept.house.cost.warm_start([(1, 1, 0.1), (1, 9, 0.9)])
        deadline_ns = kept.house.clock.now_ns() + 1500 * MS
        kept.offered(1, lengths=[9], deadline_ns=deadline_ns - 500 * MS)
        kept.offered(2, lengths=[9], deadline_ns=deadline_ns)
        kept.house.runner.take()
        kept.house.clock.ns = deadline_ns - 500 * MS
        kept.house.runner.step()

        taken = kept.offered(3, lengths=[9], deadline_ns=deadline_ns + MS)

        kept.house.run_all()
        assert taken.totals() == [3 * 9 * FEATURES]


def _retry_ms(message: bytes) -> tuple[str, int]:
    """Return what is told, and after how many milliseconds to come again."""
    told, ms, rest = re.split(r"retry after (\d+) ms", message.decode())
    return told + rest, int(ms)
