"""A repository on disk, and what loads it: real artefacts, real engines, runners whose loops run."""

from collections import Counter
from pathlib import Path

from serving.batching import Batcher, CostModel, WholeSequence
from serving.clock import SystemClock
from serving.engine.onnx import OnnxEngine
from serving.engine.turns import Turns
from serving.manifest import Manifest
from serving.metrics import ServerMetrics
from serving.policy import Policy
from serving.repository import Repository
from serving.repository.folders import scan_model
from serving.repository.loading import Loading
from serving.runner import Runner


class House:
    """A loading over a folder; also the metrics that it reports to.

    Attributes:
        counted: versions loaded and unloaded, and models of which one was refused, by what happened and which.
        loading: over the folder.
        repository: that it changes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counted: Counter[str] = Counter()
        self.clock = SystemClock()
        self.repository = Repository()
        self.loading = Loading(root, self.repository, self.load, clock=self.clock, metrics=self)

    def bring_up(self, name: str, *, again: bool = False) -> dict[int, str]:
        return self.loading.bring_up(scan_model(self.root, name), again=again)

    def load(self, manifest: Manifest, policy: Policy, directory: Path) -> Runner:
        cost = CostModel()
        return Runner(
            manifest=manifest,
            policy=policy,
            engine=OnnxEngine(manifest, directory / "model.onnx", device="cpu", threads=1),
            batcher=Batcher(WholeSequence(cost), cost, max_queue_rows=policy.max_queue_rows),
            turns=Turns(1),
            clock=self.clock,
            metrics=ServerMetrics(cpu_threads=1).of_model(manifest.name, str(manifest.version)),
        )

    def model_loaded(self, model: str, version: str, seconds: float) -> None:
        assert seconds > 0
        self.counted[f"loaded {model} {version}"] += 1

    def model_refused(self, model: str) -> None:
        self.counted[f"refused {model}"] += 1

    def model_unloaded(self, model: str) -> None:
        self.counted[f"unloaded {model}"] += 1

    def forget(self, model: str, version: str) -> None:
        self.counted[f"forgot {model} {version}"] += 1


def damage(version: Path) -> None:
    """Append a byte to the ONNX file of a version."""
    with (version / "model.onnx").open("ab") as file:
        file.write(b"!")
