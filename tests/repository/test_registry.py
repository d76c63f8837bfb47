"""Which version a request means: the newest that serves unless it names one; and why one does not serve."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.errors import ModelNotFound, NotReady
from serving.repository import Repository, Version
from tests.repository.house import House, damage
from tests.support.artefacts import write_lstm


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """Three good versions of `a` (1, 2, 10), a tampered version 11 of it, and a tampered `b`."""
    for version in (1, 2, 10, 11):
        write_lstm(tmp_path, "a", version)
    for broken in (tmp_path / "a" / "11", write_lstm(tmp_path, "b")):
        damage(broken)
    (tmp_path / "README.txt").write_text("no model")
    (tmp_path / "a" / "notes").mkdir()
    house = House(tmp_path)
    for name in ("a", "b"):
        house.bring_up(name)
    yield house.repository
    house.loading.stop()


def test_the_newest_version_that_serves_is_the_default(repository: Repository) -> None:
    """Numbers are compared as numbers, and a refused version does not count."""
    assert repository.find("a", "").manifest.version == 10
    assert repository.versions("a") == [1, 2, 10]


def test_a_version_can_be_named(repository: Repository) -> None:
    assert repository.find("a", "2").manifest.version == 2


@pytest.mark.parametrize(("name", "version"), [("a", "11"), ("b", "1"), ("b", "")])
def test_a_refused_version_says_why(repository: Repository, name: str, version: str) -> None:
    with pytest.raises(NotReady, match=r"was refused at load: .*sha256"):
        repository.find(name, version)


@pytest.mark.parametrize("version", ["3", "latest", "-1", "9" * 5000, "01", " 1", "\N{FULLWIDTH DIGIT ONE}"])
def test_an_unknown_version_lists_those_there_are(repository: Repository, version: str) -> None:
    with pytest.raises(ModelNotFound, match=r"it has \[1, 2, 10, 11\]"):
        repository.find("a", version)


@pytest.mark.parametrize("name", ["c", "", "../a"])
def test_an_unknown_model_is_not_told_the_names_of_others(repository: Repository, name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"^no model .*RepositoryIndex lists"):
        repository.find(name, "")


def test_the_index_has_every_version_and_why_it_does_not_serve(repository: Repository) -> None:
    index = {(name, number): (status, reason) for name, number, status, reason in repository.index()}

    assert list(index) == [("a", 1), ("a", 2), ("a", 10), ("a", 11), ("b", 1)]
    assert [status for status, _ in index.values()] == ["READY"] * 3 + ["UNAVAILABLE"] * 2
    assert "sha256" in index["b", 1][1]


def test_watchers_see_all_of_a_change_or_nothing(repository: Repository) -> None:
    """One call, in which what left is already out and what came is already in."""
    seen: list[list[int]] = []
    repository.watch(lambda: seen.append(repository.versions("a")))
    newest = repository.find("a", "")

    repository.serve("a", {10: newest}, [Version("a", 1, "UNAVAILABLE", "is an old one")])

    assert seen == [[1, 2, 10], [10]]
    with pytest.raises(NotReady, match="an old one"):
        repository.find("a", "1")
