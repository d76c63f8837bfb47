"""`python -m training.demo [--output demo-output]`.

Everything it makes lies in one folder; what is there and still fits the sources is used again.
"""

import argparse
import hashlib
import shutil
import sys
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

import export.__main__ as lstm_export
from training import demo, recipe
from training.demo.examples import EXAMPLES, Example
from training.demo.outcome import FP32, INT8, measure
from training.demo.show import show
from training.local_server import LocalServer

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("training", "export", "serving/manifest.py", "constraints.txt")
"""What decides which models the demo makes."""
STAMP = "made-from.sha256"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 1 if a step failed or the server's answers are worse than they may be."""
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=demo.__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for all that is made")
    output: Path = parser.parse_args(argv).output
    console = Console(highlight=False)
    weights, models = output / "weights", output / "models"
    if _is_current(output):
        console.print(f"Using the models in {output} (make clean removes them)")
    else:
        shutil.rmtree(output, ignore_errors=True)
        for example in EXAMPLES:
            code = _make(console, example, weights, models)
            if code != 0:
                return code
        (output / STAMP).write_text(_fingerprint())
    console.rule("Serve and call")
    with LocalServer(models) as server:
        console.print(
            f"$ lstm-serve --model-repository {models}    (on {server.address}, process {server.process.pid})"
        )
        with console.status("calling the server with the held-out rows"):
            outcomes = [measure(example, server.address, weights, models) for example in EXAMPLES]
        metrics = _metric_lines(server.metrics_url)
    show(console, outcomes, metrics, models, output)
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    for problem in problems:
        console.print(f"[bold red]FAILED[/] {problem}")
    return 1 if problems else 0


def _make(console: Console, example: Example, weights: Path, models: Path) -> int:
    """Train, export and quantize one model as a user would; returns the first exit code that is not 0."""
    name = example.name
    data = ["--data", str(weights / f"{name}-calibration.npz")]
    export_arguments = [
        "torch", f"training.models:{name}", "--weights", str(weights / f"{name}.safetensors"),
        "--input", example.input, *data, "--name", name, "--output", str(models),
    ]  # fmt: skip
    steps: list[tuple[str, Callable[[list[str]], int], list[str]]] = [
        (f"python -m training.{name}", partial(recipe.main, example.recipe), ["--output", str(weights)]),
        ("lstm-export", lstm_export.main, export_arguments),
        ("lstm-export", lstm_export.main, ["quantize", str(models / name / FP32), *data]),
    ]
    console.rule(f"Make the model '{name}'")
    for program, run, arguments in steps:
        console.print(f"$ {program} {' '.join(arguments)}", soft_wrap=True, markup=False)
        code = run(arguments)
        if code != 0:
            console.print(f"[bold red]FAILED[/] {program} ended with code {code}")
            return code
    return 0


def _metric_lines(url: str) -> list[str]:
    """Return three lines of `/metrics` about the first model's INT8 version."""
    with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310  our own server on loopback
        lines = page.read().decode().splitlines()
    labels = f'model="{EXAMPLES[0].name}",version="{INT8}"'
    wanted = (
        f'lstm_requests_total{{model="{EXAMPLES[0].name}",outcome="ok",version="{INT8}"}}',
        f"lstm_batch_rows_count{{{labels}}}",
        f"lstm_batch_rows_sum{{{labels}}}",
    )
    return [line for name in wanted for line in lines if line.startswith(name)]


def _is_current(output: Path) -> bool:
    stamp = output / STAMP
    return stamp.is_file() and stamp.read_text() == _fingerprint()


def _fingerprint() -> str:
    """Return a checksum of every source that decides what the demo makes."""
    digest = hashlib.sha256()
    for source in SOURCES:
        path = ROOT / source
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")) + sorted(path.rglob("*.npz")):
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
