"""A hundred thousand requests, in this process: each is answered or refused, and nothing else ever happens.

Made by generators of our own and not by atheris, whose coverage sees nothing of what is C here (protobuf's parser, numpy),
which has no wheels for ARM, and whose inputs are others each time: here a number is the same request on every machine.

`FUZZ_INPUTS` makes it more or fewer, `FUZZ_SEED` others. A failure names the seed, the kind and the number of its
request; `python -m tests.fuzz.show KIND NUMBER` prints it again, and what becomes of it.
"""

from collections import Counter

import pytest

from tests.fuzz.hostile import HOSTILE
from tests.fuzz.house import House
from tests.fuzz.kinds import INPUTS, SEED, SHARES, draw
from tests.fuzz.refusals import REFUSALS, name_of

OK = "answered"
MEANT = {
    "shapes": {"rank", "values", "axis", "nothing in it", "rows differ", "state: form", "state: bytes"},
    "sizes": {"rows", "steps", "rows differ", "steps differ"},
    "datatypes": {"datatype", "state: form"},
    "contents": {"both contents", "values", "raw contents", "part of a value", "state: typed", "state: bytes"},
    "inputs": {"repeated input", "no inputs", "unknown input", "missing input", "no state"},
    "parameters": {"sequence", "timeout", "priority", "tensor's parameter"},
    "outputs": {"no output"},
    "values": {"not finite", "lengths", "lengths differ", "vocabulary", "calibrated range"},
    "states": {name for name in REFUSALS if name.startswith("state: ")} | {"no state"},
    "names": {"no model", "no version"},
    "damaged": {"no message", "no model", "no version", "repeated input", "unknown input", "datatype", "values"},
    "fields": {"no message", "no model", "no inputs"},
    "noise": {"no message", "no model"},
}
"""What requests of a kind are refused for, if they are made as they should be."""
ENOUGH = 5e-4
"""Of a kind's requests for each of these."""
FEWEST_INPUTS = 50_000
"""So many show how they are distributed."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def outcomes(house: House) -> dict[str, Counter[str]]:
    """Send all of them; what became of each kind, by the name of the refusal."""
    found: dict[str, Counter[str]] = {}
    for kind, share in SHARES.items():
        found[kind] = Counter()
        for number in range(round(INPUTS * share)):
            rng, content = draw(house.targets, kind, number)
            try:
                error = house.send(rng, content)
                found[kind][OK if error is None else name_of(error)] += 1
            except Exception as failure:
                shown = content.hex() if len(content) < 2000 else f"{len(content)} bytes"
                raise AssertionError(f"FUZZ_SEED={SEED}, {kind} number {number}: {failure!r}; {shown}") from failure
    return found


def test_every_request_is_answered_or_refused(outcomes: dict[str, Counter[str]]) -> None:
    assert sum(each.total() for each in outcomes.values()) == pytest.approx(INPUTS, rel=0.001)


def test_good_requests_are_answered_all_of_them(outcomes: dict[str, Counter[str]]) -> None:
    assert set(outcomes["good"]) == {OK}


@pytest.mark.skipif(INPUTS < FEWEST_INPUTS, reason="too few requests to judge by")
@pytest.mark.parametrize("kind", MEANT)
def test_a_kind_of_request_is_refused_for_what_it_is_meant_to_be(outcomes: dict[str, Counter[str]], kind: str) -> None:
    """A generator that makes the same request again and again, or only good ones, tests nothing."""
    found = outcomes[kind]

    assert {name: found[name] for name in MEANT[kind] if found[name] < ENOUGH * found.total()} == {}


@pytest.mark.skipif(INPUTS < FEWEST_INPUTS, reason="too few requests to judge by")
@pytest.mark.parametrize("kind", [*HOSTILE, "damaged"])
def test_a_kind_of_request_is_answered_where_the_change_does_no_harm(
    outcomes: dict[str, Counter[str]], kind: str
) -> None:
    found = outcomes[kind]

    assert 0.03 < found[OK] / found.total() < 0.8


def test_every_refusal_is_meant_by_some_kind() -> None:
    assert set().union(*MEANT.values()) == set(REFUSALS)
    assert MEANT.keys() | {"good"} == SHARES.keys()
    assert sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", SHARES)
def test_a_number_is_the_same_request_every_time(house: House, kind: str) -> None:
    drawn = [draw(house.targets, kind, number)[1] for number in range(20)]

    assert drawn == [draw(house.targets, kind, number)[1] for number in range(20)]
    assert len(set(drawn)) > 10
