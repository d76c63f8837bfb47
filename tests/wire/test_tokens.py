"""Tokens by the clock: when a file is read again, and when a day is over."""

import datetime as dt
import hashlib
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from serving.clock import NANOSECONDS_PER_SECOND
from serving.errors import PermissionDenied, Unauthenticated
from serving.wire.access import Access, Client, Tokens
from serving.wire.access.rights import NOT_ADMINISTRATION
from serving.wire.access.tokens import LOOK_NS
from serving.wire.server import METHODS
from tests.runner.house import ManualClock

INFERENCE = {"ModelInfer", "ModelStreamInfer"}


def write(path: Path, **days: dt.date | None) -> None:
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **({"expires": day} if day else {})}
        for name, day in days.items()
    ]
    path.write_text(yaml.safe_dump(entries))


def test_a_token_holds_on_its_last_day_and_not_on_the_next(tmp_path: Path) -> None:
    today = dt.datetime.now(dt.UTC).date()
    path = tmp_path / "tokens.yaml"
    write(path, yesterday=today - dt.timedelta(days=1), tomorrow=today + dt.timedelta(days=1), ever=None)
    tokens = Tokens(path, ManualClock())

    assert tokens.client("tomorrow") == Client("tomorrow", frozenset(), admin=False)
    assert tokens.client("ever").name == "ever"
    with pytest.raises(Unauthenticated, match="'yesterday' has expired"):
        tokens.client("yesterday")


def test_a_change_is_seen_within_a_second(tmp_path: Path) -> None:
    path, clock = tmp_path / "tokens.yaml", ManualClock()
    write(path, old=None)
    tokens = Tokens(path, clock)
    write(path, new=None, newer=None)

    clock.ns = LOOK_NS - 1
    assert tokens.client("old").name == "old"
    clock.ns = NANOSECONDS_PER_SECOND
    assert tokens.client("new").name == "new"
    with pytest.raises(Unauthenticated):
        tokens.client("old")


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        ("ipv4:127.0.0.1:1", True),
        ("ipv6:[::1]:1", True),
        ("ipv6:%5B::1%5D:1", True),
        ("ipv4:10.0.0.1:1", False),
        ("ipv6:[::2]:127", False),
        ("ipv6:%5B2001:db8::1%5D:1", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("method", sorted({*METHODS, "SomethingNew"} - NOT_ADMINISTRATION - INFERENCE))
def test_without_tokens_only_this_machine_administrates(method: str, peer: str, *, here: bool) -> None:
    """A call that is listed nowhere counts as administration."""
    with nullcontext() if here else pytest.raises(PermissionDenied, match="only from the server's own machine"):
        Access(None).check(method, None, (), peer)


def test_what_is_administration() -> None:
    assert set(METHODS) - NOT_ADMINISTRATION - INFERENCE == {"RepositoryModelLoad", "RepositoryModelUnload"}
