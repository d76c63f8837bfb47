"""What the commands share: progress for the person who waits, the verdict on the proofs, and the closing table."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from export.errors import ProofFailed
from export.proving.metric import Metric
from serving.manifest import Manifest, Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What the user wants to be checked beside the proofs: a metric, and limits by the figures of a gate."""

    metric: Metric | None = None
    gate: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How a command runs.

    Attributes:
        data: `.npz` file with real sequences, or MODULE:FUNCTION that returns them; None for noise.
        force: write even if a proof fails.
        console: where progress goes.
    """

    data: str | Path | None
    force: bool
    console: Console

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show what is being done, and how long it took."""
        started = time.perf_counter()
        with self.console.status(escape(what)):
            yield
        self.console.print(f"{escape(what)} [dim]{time.perf_counter() - started:.1f} s[/dim]")

    def forced(self, proofs: Sequence[Proof]) -> bool:
        """Return whether the artefact is written against its proofs.

        Raises:
            ProofFailed: one failed, and the user did not insist.
        """
        failed = [proof for proof in proofs if not proof.passed]
        if not failed:
            return False
        reasons = "; ".join(f"{proof.name} measured {proof.measured}, the limit is {proof.limit}" for proof in failed)
        if not self.force:
            raise ProofFailed(f"a proof failed, so nothing was written: {reasons}. --force writes it all the same")
        self.console.print(
            f"[bold red]WARNING: written although a proof failed:[/bold red] {escape(reasons)}", soft_wrap=True
        )
        return True

    def close(self, directory: Path, manifest: Manifest) -> None:
        """Print the proofs, the warnings and where the artefact lies."""
        table = Table("proof", "measured", "verdict")
        for proof in manifest.proofs:
            figures = ", ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in proof.measured.items()
            )
            verdict = "reported" if proof.limit is None else "passed" if proof.passed else "FAILED"
            table.add_row(proof.name, escape(figures), verdict)
        self.console.print(table)
        for warning in manifest.warnings:
            self.console.print(f"[yellow]Warning:[/yellow] {escape(warning)}", soft_wrap=True)
        self.console.print(f"wrote {escape(str(directory))} ({manifest.file.bytes:,} bytes)", soft_wrap=True)


def finite(proof: Proof) -> Proof:
    """Return the proof with infinities and NaN as text: JSON has no numbers for them."""
    measured = {
        key: value if not isinstance(value, float) or math.isfinite(value) else str(value)
        for key, value in proof.measured.items()
    }
    return proof.model_copy(update={"measured": measured})


def now() -> str:
    """Return the time of day for a manifest, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
