"""Swapping versions: a good one comes beside those that serve, a bad one never displaces one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.errors import Draining, NotReady
from serving.repository import Model
from serving.tensors import Rows
from tests.repository.house import House, damage
from tests.support.artefacts import FEATURES, write_lstm


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Versions 1 and 2 of `a`, loaded."""
    write_lstm(tmp_path, "a", 1)
    write_lstm(tmp_path, "a", 2, seed=2)
    made = House(tmp_path)
    made.bring_up("a")
    yield made
    made.loading.stop()


class Nobody:
    """A reply that nobody waits for."""

    def answer(self, outputs: object) -> None:
        del outputs

    def fail(self, error: Exception) -> None:
        del error


def put(model: Model) -> int:
    x = np.zeros((1, 2, FEATURES), np.float32)
    return model.inbox.put(Rows(inputs={"x": x}, lengths=np.array([2]), time=2, state=None), Nobody())


def policy(house: House, text: str) -> None:
    (house.root / "a" / "model.yaml").write_text(text)


def test_what_has_not_changed_is_left_alone(house: House) -> None:
    before = house.repository.models

    house.bring_up("a")

    assert house.repository.models == before
    assert house.counted == {"loaded a 1": 1, "loaded a 2": 1}


def test_an_order_to_load_again_does_so(house: House) -> None:
    old = house.repository.find("a", "2")

    assert house.bring_up("a", again=True) == {}

    assert house.repository.find("a", "2") is not old
    with pytest.raises(Draining):
        put(old)
    assert put(house.repository.find("a", "2"))
    assert house.counted == {"loaded a 1": 2, "loaded a 2": 2}, "a version that is there all the time never left"


def test_a_new_version_becomes_the_default(house: House) -> None:
    write_lstm(house.root, "a", 3, seed=3)

    house.bring_up("a")

    assert house.repository.find("a", "").manifest.version == 3
    assert house.repository.versions("a") == [1, 2, 3]


def test_a_bad_version_is_refused_once_and_the_others_serve_on(house: House) -> None:
    damage(write_lstm(house.root, "a", 3))

    first, second = house.bring_up("a"), house.bring_up("a")

    assert house.repository.find("a", "").manifest.version == 2
    assert first == second
    assert "sha256" in first[3]
    assert house.counted["refused a"] == 1, "files that have not changed are not read again"


def test_a_refused_version_serves_once_its_files_are_whole(house: House) -> None:
    write_lstm(house.root, "a", 3)
    model = house.root / "a" / "3" / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    assert list(house.bring_up("a")) == [3]

    model.write_bytes(whole)

    assert house.bring_up("a") == {}
    assert house.repository.versions("a") == [1, 2, 3]


def test_a_version_that_was_damaged_in_place_serves_on_from_memory(house: House) -> None:
    good = house.repository.find("a", "2")
    damage(house.root / "a" / "2")

    assert list(house.bring_up("a")) == [2]

    assert house.repository.find("a", "2") is good
    assert put(good)


def test_the_newest_good_versions_are_those_that_load(house: House) -> None:
    policy(house, "versions: {latest: 2}")
    damage(write_lstm(house.root, "a", 4))
    write_lstm(house.root, "a", 3)

    house.bring_up("a")

    assert house.repository.versions("a") == [2, 3]
    assert house.counted["forgot a 1"] == 1
    with pytest.raises(NotReady, match=r"model\.yaml"):
        house.repository.find("a", "1")


def test_versions_that_are_named_serve_and_no_others(house: House) -> None:
    policy(house, "versions: [1, 7]")

    house.bring_up("a")

    assert house.repository.versions("a") == [1]


def test_a_bad_choice_of_versions_leaves_those_that_serve(house: House) -> None:
    """The only version that is asked for is damaged."""
    damage(write_lstm(house.root, "a", 3))
    policy(house, "versions: [3]")

    house.bring_up("a")

    assert house.repository.versions("a") == [1, 2]


@pytest.mark.parametrize(
    "text", ["max_rows: 1", "max_steps: 0", "\tnot: yaml", "versions: {latest: 0}", "versions: []x"]
)
def test_a_wrong_model_yaml_changes_nothing(house: House, text: str) -> None:
    before = house.repository.models
    policy(house, text)

    refused = house.bring_up("a")

    assert house.repository.models == before
    assert "model.yaml" in refused[1]


def test_a_new_model_yaml_holds_for_the_next_request(house: House) -> None:
    policy(house, "max_steps: 7")

    house.bring_up("a")

    assert {model.policy.max_steps for model in house.repository.models.values()} == {7}


def test_a_wrong_model_yaml_at_the_start_refuses_its_model_with_the_reason(tmp_path: Path) -> None:
    write_lstm(tmp_path, "a")
    (tmp_path / "a" / "model.yaml").write_text("max_rows: 1\n")
    house = House(tmp_path)

    house.bring_up("a")

    with pytest.raises(NotReady, match="max_rows"):
        house.repository.find("a", "")


def test_a_folder_that_is_gone_is_unloaded(house: House) -> None:
    old = house.repository.find("a", "1")
    shutil.rmtree(house.root / "a" / "1")

    house.bring_up("a")

    assert house.repository.versions("a") == [2]
    with pytest.raises(Draining):
        put(old)


def test_an_unloaded_model_says_so_and_can_come_back(house: House) -> None:
    house.loading.unload("a")
    with pytest.raises(NotReady, match="was unloaded"):
        house.repository.find("a", "")

    house.bring_up("a")

    assert house.repository.versions("a") == [1, 2]


def test_an_engine_that_fails_in_an_unforeseen_way_refuses_its_version_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bug in foreign code would; no real file is known to do it."""
    write_lstm(house.root, "a", 3)

    def fail(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(house.loading, "_load", fail)

    assert "MemoryError" in house.bring_up("a")[3]
    assert house.repository.versions("a") == [1, 2]
