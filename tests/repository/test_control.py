"""Who decides what is loaded: the start, the files, or calls."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.errors import ArtifactError, ControlOff, Draining, LoadRefused, ModelNotFound
from serving.repository.control import Mode, ModelControl
from tests.repository.house import House, damage
from tests.support.artefacts import write_lstm

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60.0


@contextmanager
def control(house: House, mode: Mode, *names: str) -> Iterator[ModelControl]:
    made = ModelControl(house.repository, house.loading, mode=mode)
    try:
        made.start(names, poll_seconds=POLL_SECONDS)
        yield made
    finally:
        made.stop()


@pytest.fixture
def house(tmp_path: Path) -> House:
    """One version of `a`, and of `b`."""
    write_lstm(tmp_path, "a")
    write_lstm(tmp_path, "b")
    return House(tmp_path)


def until(house: House, true: Callable[[], bool]) -> None:
    """Wait for a change of what serves after which it is true."""
    changed = threading.Event()
    house.repository.watch(changed.set)
    while not true():
        assert changed.wait(PATIENCE_SECONDS)
        changed.clear()


def looks_of(made: ModelControl) -> threading.Semaphore:
    """Return what is released after each look at the files."""
    looks = threading.Semaphore(0)
    look = made._poll

    def counted() -> None:
        look()
        looks.release()

    made._poll = counted  # type: ignore[method-assign]
    return looks


def test_nothing_changes_after_the_start_under_none(house: House) -> None:
    with control(house, "none") as made:
        assert [name for name, _ in house.repository.models] == ["a", "b"]
        for order in (made.load, made.unload):
            with pytest.raises(ControlOff, match="--model-control none"):
                order("a")


def test_files_that_come_and_go_are_followed_under_poll(house: House) -> None:
    with control(house, "poll"):
        write_lstm(house.root, "a", 2)
        until(house, lambda: house.repository.versions("a") == [1, 2])

        shutil.rmtree(house.root / "b")
        until(house, lambda: not house.repository.versions("b"))

        write_lstm(house.root, "c")
        until(house, lambda: house.repository.versions("c") == [1])


def test_a_repository_may_be_empty_at_first_under_poll(tmp_path: Path) -> None:
    house = House(tmp_path)
    with control(house, "poll"):
        write_lstm(tmp_path, "a")

        until(house, lambda: house.repository.versions("a") == [1])


def test_a_copy_under_way_is_not_loaded(house: House) -> None:
    """Its manifest came first; the rest comes in pieces, at every look another one."""
    source = write_lstm(house.root.with_name("elsewhere"), "a", 2)
    whole = (source / "model.onnx").read_bytes()
    target = house.root / "a" / "2"
    with control(house, "poll") as made:
        looks = looks_of(made)
        target.mkdir()
        (target / "manifest.json").write_bytes((source / "manifest.json").read_bytes())
        for end in range(1, len(whole), len(whole) // 4):
            (target / "model.onnx").write_bytes(whole[:end])
            assert looks.acquire(timeout=PATIENCE_SECONDS)
            assert house.repository.versions("a") == [1]
        (target / "model.onnx").write_bytes(whole)

        until(house, lambda: house.repository.versions("a") == [1, 2])


def test_a_root_that_vanishes_takes_nothing_down(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A volume that is mounted anew."""
    away = house.root.with_name("away")
    with control(house, "poll") as made:
        house.root.rename(away)
        write_lstm(away, "a", 2)
        looks = looks_of(made)
        assert all(looks.acquire(timeout=PATIENCE_SECONDS) for _ in range(3))
        assert caplog.text.count("cannot be listed") == 1
        assert [name for name, _ in house.repository.models] == ["a", "b"]

        away.rename(house.root)
        until(house, lambda: house.repository.versions("a") == [1, 2])


def test_only_named_models_are_loaded_at_first_under_explicit(house: House) -> None:
    with control(house, "explicit", "b") as made:
        assert [name for name, _ in house.repository.models] == ["b"]
        assert [(name, status) for name, _, status, _ in made.index()] == [("a", "UNAVAILABLE"), ("b", "READY")]

        made.load("a")
        made.unload("b")

        assert [(name, status) for name, _, status, _ in made.index()] == [("a", "READY"), ("b", "UNAVAILABLE")]


@pytest.mark.parametrize("name", ["c", "", "..", "a/1", "a\0"])
def test_models_that_are_not_there_cannot_be_ordered(house: House, name: str) -> None:
    with control(house, "explicit") as made:
        for order in (made.load, made.unload):
            with pytest.raises(ModelNotFound):
                order(name)


def test_an_order_to_load_a_bad_version_fails_with_the_reason_and_what_serves(house: House) -> None:
    with control(house, "explicit", "a") as made:
        damage(write_lstm(house.root, "a", 2))

        with pytest.raises(LoadRefused, match=r"version 2 .*sha256.*versions \[1\] serve"):
            made.load("a")

        assert house.repository.versions("a") == [1]


@pytest.mark.parametrize("named", ["b", "missing"])
def test_a_named_model_that_cannot_serve_ends_the_start(house: House, named: str) -> None:
    damage(house.root / "b" / "1")

    with pytest.raises(ArtifactError, match=f"--load-model {named}"), control(house, "explicit", named):
        pass


@pytest.mark.parametrize("mode", ["none", "poll", "explicit"])
def test_a_missing_root_ends_the_start(tmp_path: Path, mode: Mode) -> None:
    with pytest.raises(ArtifactError, match="--model-repository"), control(House(tmp_path / "missing"), mode):
        pass


def test_without_any_good_version_there_is_nothing_to_start(house: House) -> None:
    damage(house.root / "a" / "1")
    damage(house.root / "b" / "1")

    with pytest.raises(ArtifactError, match="all 2 model versions were refused"), control(house, "none"):
        pass


def test_an_order_to_a_server_that_stops_is_told_so(house: House) -> None:
    with control(house, "explicit") as made:
        pass

    with pytest.raises(Draining):
        made.load("a")
