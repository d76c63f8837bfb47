"""The best form of a model that its proofs allow: stepwise or whole, with mixed lengths or only equal ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from export.data import Data, pool
from export.errors import CarriedStateUnsupported
from export.job import Job
from export.model import OnnxModel
from export.proving.proofs import prove_chunks, prove_company
from export.runtime import Row, Runtime
from serving.manifest import Proof


class HasModel(Protocol):
    """What a way of exporting makes, whatever else it knows of it."""

    @property
    def model(self) -> OnnxModel:
        """The ONNX model."""


Made = TypeVar("Made", bound=HasModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form(Generic[Made]):
    """A graph with the proofs so far, and why it is not better than it is.

    Attributes:
        made: the graph.
        runtime: of it.
        pool: rows of many lengths that it was proven with.
        data: where they come from.
        proofs: company, and chunks if it carries state.
        equal_lengths: padding changes its answers.
        notes: sentences for the report.
    """

    made: Made
    runtime: Runtime
    pool: list[Row]
    data: Data
    proofs: list[Proof]
    equal_lengths: bool
    notes: list[str] = field(default_factory=list)

    @property
    def padding_error(self) -> float:
        """What company of mixed lengths changes, over the largest output; of a model with `equal_lengths`."""
        return float(self.proofs[0].measured["mixed_lengths_relative"])


def best_form(make: Callable[[bool], Made], data_of: Callable[[OnnxModel], Data], job: Job) -> Form[Made]:
    """Make the graph with carried state and keep it if that can be proven; else make it without.

    Args:
        make: gives the graph, with carried state or without; raises `CarriedStateUnsupported` if it cannot have any.
        data_of: gives the rows to prove a graph with.
        job: shows progress.

    Raises:
        ExportError: as `make` and `data_of`.
    """
    with job.step("exporting with carried state"):
        try:
            made, reason = make(True), ""
        except CarriedStateUnsupported as error:
            made, reason = None, str(error)
    if made is not None:
        form = _prove_company(made, data_of, job)
        reason = _why_not_stepwise(form, job)
        if not reason:
            return form
    with job.step(f"exporting as a whole-sequence model: {reason}"):
        whole = make(False)
    form = _prove_company(whole, data_of, job)
    form.notes.append(f"It is not stepwise: {reason}.")
    return form


def _why_not_stepwise(form: Form[Made], job: Job) -> str:
    """Prove chunks of a form with carried state and add that to its proofs; gives the reason if they do not hold."""
    if form.equal_lengths:
        return "its answers depend on padding"
    with job.step("proving chunks with carried state"):
        chunks = prove_chunks(form.runtime, form.pool)
    if not chunks.passed:
        return f"chunks with carried state differ from one run by {chunks.measured['relative']} of the output"
    form.proofs.append(chunks)
    return ""


def _prove_company(made: Made, data_of: Callable[[OnnxModel], Data], job: Job) -> Form[Made]:
    data = data_of(made.model)
    rows = pool(data, made.model.inputs)
    runtime = Runtime(made.model)
    with job.step(f"proving that company never matters ({data.name})"):
        company, equal_lengths = prove_company(runtime, rows)
    return Form(made=made, runtime=runtime, pool=rows, data=data, proofs=[company], equal_lengths=equal_lengths)
