"""`lstm-export inspect`: an artefact for a person's eyes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from export.graphs import all_nodes
from export.proving.int8_proofs import weight_bytes
from export.reporting.markdown import number
from export.reporting.report import limits, summary, tensor_rows
from export.versions import find_versions
from serving.manifest import Manifest, read_manifest


def inspect(path: Path, console: Console) -> None:
    """Print every version at or below `path`: tensors, batching, precision, operators, proofs, warnings and origin.

    Raises:
        ArtifactError: no version there, or one that is not intact.
    """
    for directory in find_versions(path):
        _print(directory, read_manifest(directory), console)


def _print(directory: Path, manifest: Manifest, console: Console) -> None:
    content = (directory / manifest.file.name).read_bytes()
    console.rule(f"{manifest.name}/{manifest.version} ({manifest.precision.upper()})")
    console.print(summary(manifest).replace("**", ""), *manifest.notes, soft_wrap=True, markup=False)
    for warning in manifest.warnings:
        console.print(f"[yellow]Warning:[/yellow] {escape(warning)}", soft_wrap=True)
    console.print(_table(("side", "name", "type", "shape", "note"), tensor_rows(manifest)))
    operators = Counter(node.op_type for node in all_nodes(onnx.load_from_string(content).graph))
    shown = ", ".join(f"{count} {name}" for name, count in operators.most_common())
    console.print(
        f"{sum(operators.values())} operators: {shown}. {weight_bytes(content):,} bytes of weights.", soft_wrap=True
    )
    if manifest.int8 is not None:
        names = ", ".join(manifest.int8.quantized_nodes)
        left = ", ".join(manifest.int8.float_nodes) or "none"
        console.print(f"INT8 nodes: {names}. Left in float: {left}.", soft_wrap=True, markup=False)
    console.print(_proofs(manifest))
    facts = {**manifest.source, **manifest.tools, "created": manifest.created, "sha256": manifest.file.sha256}
    console.print(_table(("what", "value"), facts.items()))


def _proofs(manifest: Manifest) -> Table:
    rows = []
    for proof in manifest.proofs:
        verdict = "reported" if proof.limit is None else "passed" if proof.passed else "FAILED"
        measured = ", ".join(f"{key} {number(value)}" for key, value in proof.measured.items())
        rows.append((proof.name, measured, limits(proof), verdict))
    return _table(("proof", "measured", "limit", "verdict"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*head)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
