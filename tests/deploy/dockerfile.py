"""A Dockerfile taken apart into stages and instructions. Whether it is well written is for hadolint to say."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Stage:
    """What lies between two FROMs.

    Attributes:
        image: what FROM says, without `AS name`.
        name: of the stage, empty without one.
        instructions: after FROM, as pairs of name and value, lines joined.
    """

    image: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, name: str) -> list[str]:
        """Return the values of one kind of instruction."""
        return [value for kind, value in self.instructions if kind == name]


def stages_of(path: Path) -> list[Stage]:
    """Return a Dockerfile's stages; arguments before the first are left out."""
    stages: list[Stage] = []
    for name, value in _instructions(path.read_text()):
        if name == "FROM":
            image, _, stage = value.partition(" AS ")
            stages.append(Stage(image, stage))
        elif stages:
            stages[-1].instructions.append((name, value))
    return stages


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for joined in "\n".join(lines).replace("\\\n", " ").splitlines():
        if joined.strip():
            name, _, value = joined.strip().partition(" ")
            yield name, " ".join(value.split())
