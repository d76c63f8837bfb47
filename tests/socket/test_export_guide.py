"""What docs/export.md says: its commands run in order where README's end, and its example decodes."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import nn

from export.modules import BeamDecoder
from serving.manifest import read_manifest
from tests.socket.readme import ROOT

GUIDE = (ROOT / "docs" / "export.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the guide's fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_every_command_of_the_guide_works_where_the_readme_ends(
    newcomers_models: Path, workplace: Path, tmp_path: Path
) -> None:
    for name in (".venv", "demo-output", "training"):
        (tmp_path / name).symlink_to(workplace / name)
    shutil.copytree(newcomers_models, tmp_path / "models")

    for block in blocks("sh"):
        script = f". .venv/bin/activate\n{block}"
        ended = subprocess.run(
            ["sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
        )
        assert ended.returncode == 0, f"{block}\n{ended.stdout}\n{ended.stderr}"

    models = tmp_path / "models"
    gated = read_manifest(models / "my-speaker" / "3")
    assert {proof.name: proof.passed for proof in gated.proofs}["gate"]
    assert read_manifest(models / "my-speaker" / "4").precision == "fp16"
    assert not read_manifest(models / "taken-in" / "1").equal_lengths


def test_the_translator_of_the_guide_answers_with_a_sequence() -> None:
    """The methods that the guide shows, with layers of the sizes that they need."""
    (snippet,) = blocks("python")
    names: dict[str, Any] = {"nn": nn, "torch": torch, "BeamDecoder": BeamDecoder}
    exec(snippet, names)  # noqa: S102  our own text

    class Complete(names["Translator"]):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(7, 3)
            self.encoder = nn.LSTM(3, 5, batch_first=True, bidirectional=True)
            self.cell = nn.LSTMCell(13, 10)
            self.score = nn.Linear(20, 7)

    names["Translator"] = Complete
    decoder = names["translator"]()

    answer = decoder(torch.tensor([[2, 3, 4]]), torch.tensor([3]))

    assert answer["tokens"].shape == (1, 60)
    assert "GreedyDecoder(" in snippet
