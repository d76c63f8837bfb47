"""`--gate`: the user's own limits, such as `rms=0.1,metric=0.01`; beyond one of them nothing is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from export.errors import ExportError
from serving.manifest import Proof

FLAG = "--gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    proof: str
    key: str
    bound: Literal["most", "least"]
    meaning: str


FIGURES: dict[str, _Figure] = {
    "rms": _Figure(proof="accuracy", key="rms_relative", bound="most", meaning="RMS error over the RMS of the outputs"),
    "cosine": _Figure(proof="accuracy", key="cosine", bound="least", meaning="cosine of all outputs"),
    "argmax": _Figure(
        proof="accuracy", key="argmax_agreement", bound="least", meaning="share of largest scores at the same place"
    ),
    "equal": _Figure(
        proof="accuracy", key="equal_share", bound="least", meaning="share of integer outputs that are the same"
    ),
    "company": _Figure(
        proof="company", key="relative", bound="most", meaning="what company changes, over the largest output"
    ),
    "metric": _Figure(proof="metric", key="loss", bound="most", meaning="loss of the metric (--metric)"),
    "size": _Figure(proof="accuracy", key="size", bound="most", meaning="bytes of the file over those of FP32's"),
}


class GateUsageError(ExportError):
    """The text of `--gate` is not of its form."""


def parse_gate(text: str) -> dict[str, float]:
    """Parse `--gate`, such as `rms=0.1,metric=0.01`.

    Raises:
        GateUsageError: an unknown figure, one twice, or no number.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in FIGURES or name in limits:
            raise GateUsageError(
                f"{FLAG} {text!r}: {name!r} is {'given twice' if name in limits else 'unknown'}; expected "
                f"FIGURE=NUMBER, separated by commas, of {describe_figures()}"
            )
        try:
            limits[name] = float(number)
        except ValueError as error:
            raise GateUsageError(
                f"{FLAG} {text!r}: {number!r} is not a number; expected, for example, rms=0.1"
            ) from error
        if limits[name] != limits[name]:
            raise GateUsageError(f"{FLAG} {text!r}: {name} needs a number that others can be compared with, got NaN")
    return limits


def describe_figures() -> str:
    """Return the figures that a gate may limit, for messages and help."""
    return "; ".join(f"{name} (at {figure.bound}: {figure.meaning})" for name, figure in FIGURES.items())


def prove_gate(limits: Mapping[str, float], proofs: Sequence[Proof], *, precision: str) -> Proof:
    """Compare the proofs' figures with the user's limits.

    Args:
        limits: by figure.
        proofs: all others of the version.
        precision: of the version, or "native" for an INT8 one that the native engine is to run; its accuracy proof
            has that name.

    Raises:
        ExportError: a figure was not measured for this model.
    """
    found = {name: find_figure(name, proofs, precision=precision) for name in limits}
    measured: dict[str, float | int | str] = {}
    for name, value in found.items():
        if value is None:
            hint = "give --metric as well" if name == "metric" else "the model's outputs have no such figure"
            raise ExportError(f"{FLAG} {name}: {FIGURES[name].meaning} was not measured: {hint}")
        measured[name] = value
    passed = all(_holds(FIGURES[name], float(measured[name]), limit) for name, limit in limits.items())
    return Proof(name="gate", passed=passed, measured=measured, limit=dict(limits))


def find_figure(name: str, proofs: Sequence[Proof], *, precision: str) -> float | int | str | None:
    """Return a gate's figure from the proof that has it; None if none has."""
    figure = FIGURES[name]
    own = f"{precision}_{figure.proof}"
    names = (precision, f"{precision}_emulated") if figure.proof == "accuracy" else (own, figure.proof)
    by_name = {proof.name: proof.measured for proof in proofs}
    return next((by_name[each][figure.key] for each in names if figure.key in by_name.get(each, {})), None)


def is_least(name: str) -> bool:
    """Return whether a gate's figure must be at least its limit; else at most."""
    return name in FIGURES and FIGURES[name].bound == "least"


def _holds(figure: _Figure, value: float, limit: float) -> bool:
    """Return whether the limit is kept; NaN keeps none."""
    return value >= limit if figure.bound == "least" else value <= limit
