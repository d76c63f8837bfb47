"""The same bytes to both decoders: what C++ takes, Python takes with the same meaning; what Python takes, C++ takes.

A failure names the seed, the kind and the number of its request, which is the same on every machine.
"""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.broken import BYTES, VARINT, varint
from tests.fuzz.good import good
from tests.fuzz.hostile import Input
from tests.fuzz.kinds import SEED, SHARES, draw
from tests.support.front import front_open, needs_front
from tests.wire.native.both import NOW_NS, Both
from tests.wire.native.rearranged import rearranged
from tests.wire.native.versions import VERSIONS

pytestmark = needs_front
REARRANGED = "rearranged"
OF_EACH_KIND, HYPOTHESIS = 3000, 1000
USUALLY_TAKEN = 0.03
LEAST_TAKEN = {"good": 0.6, "fields": 0, "noise": 0}
"""Shares of a kind: generators that only make what both refuse test nothing."""
UNKNOWN = varint(100 << 3 | VARINT) + varint(7)
TOO_LARGE = 1425948652
"""More than the 29 bits of a field's number."""
DEADLINES = (None, NOW_NS + 1, NOW_NS + 10**9, 2**62)


@pytest.fixture(scope="module")
def both() -> Iterator[dict[str, Both]]:
    with front_open() as (library, front):
        versions = {version.manifest.name: Both(library, front, version) for version in VERSIONS}
        yield versions
        versions.clear()  # inboxes go before their front


def compare(both: dict[str, Both], rng: Random, content: bytes) -> bool:
    """Bring a request to the version that it was made for, or to any: the library is asked after the version is found."""
    named = [name for name in both if name.encode() in content[:64]]
    name = named[0] if named else rng.choice(list(both))
    return both[name].compare(rng, content, deadline_ns=rng.choice(DEADLINES))


@pytest.mark.parametrize("kind", [*SHARES, REARRANGED])
def test_both_decoders_make_the_same_of_a_request(both: dict[str, Both], kind: str) -> None:
    targets = [each.target for each in both.values()]
    taken = 0
    for number in range(OF_EACH_KIND):
        rng, content = draw(targets, "good" if kind == REARRANGED else kind, number)
        if kind == REARRANGED:
            content = rearranged(rng, content)
        try:
            taken += compare(both, rng, content)
        except Exception as failure:
            raise AssertionError(f"FUZZ_SEED={SEED}, {kind} number {number}: {failure!r}; {content.hex()}") from failure
    assert taken >= OF_EACH_KIND * LEAST_TAKEN.get(kind, USUALLY_TAKEN)


@given(rng=st.randoms(use_true_random=False), name=st.sampled_from([each.manifest.name for each in VERSIONS]))
@settings(deadline=None, max_examples=HYPOTHESIS, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_small_requests_find_no_difference(both: dict[str, Both], rng: Random, name: str) -> None:
    """Made so that a difference is shown by the smallest request that has it."""
    content = good(rng, both[name].target, rows=rng.randint(1, 2), steps=rng.randint(1, 2)).SerializeToString()
    both[name].compare(rng, rearranged(rng, content) if rng.random() < 0.8 else content)


@pytest.mark.parametrize("name", [each.manifest.name for each in VERSIONS])
def test_good_requests_for_each_version_are_taken(both: dict[str, Both], name: str) -> None:
    rng = Random(name)  # noqa: S311  repeatable
    requests = [good(rng, both[name].target) for _ in range(100)]

    taken = [both[name].compare(rng, request.SerializeToString()) for request in requests]

    assert True in taken


@pytest.mark.parametrize("at", [(), ("inputs",), ("inputs", "contents"), ("outputs",), ("parameters",)], ids=str)
def test_python_looks_at_requests_with_fields_that_the_contract_does_not_know(
    both: dict[str, Both], at: tuple[str, ...]
) -> None:
    """What one implementation of protobuf calls a damaged field is an unknown one to another, and left out."""
    request = good(Random(1), both["lstm"].target, typed=True)  # noqa: S311  repeatable
    request.outputs.add(name="last")
    request.parameters["priority"].int64_param = 1
    part: Any = request
    for name in at:
        part = getattr(part, name)
        part = part["priority"] if name == "parameters" else part if name == "contents" else part[0]
    part.MergeFromString(UNKNOWN)

    assert both["lstm"].by_python(request.SerializeToString(), None) is not None
    assert not both["lstm"].compare(Random(1), request.SerializeToString())  # noqa: S311  repeatable


def test_a_field_number_that_no_field_can_have_is_not_passed_over(both: dict[str, Both]) -> None:
    """C++ reads it, without the bits that are too many, as that of an unknown field: here the lengths."""
    request = good(Random(1), both["lstm"].target, steps=3, typed=True)  # noqa: S311  repeatable
    del request.inputs[1:]
    lengths = Input(name="lengths", datatype="INT64", shape=[1], contents={"int64_contents": [2]})
    content = lengths.SerializeToString()

    assert not both["lstm"].compare(
        Random(1),  # noqa: S311  repeatable
        request.SerializeToString() + varint(TOO_LARGE << 3 | BYTES) + varint(len(content)) + content,
    )
