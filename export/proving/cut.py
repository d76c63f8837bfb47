"""Whether a model in parts computes what the whole graph does, apart from INT8: its layers are run in FP32 for this."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx

from export.data import SEED
from export.errors import ExportError
from export.proving.proofs import draw
from export.runtime import Array, Row, Runtime
from export.smaller.native_form import NativeForm, open_parts, plan_file
from serving.engine.native.session import NativeSession
from serving.manifest import Proof
from serving.plan import OnnxPart, RecurrentPart

CUT_LIMIT = 1e-5
"""Of each tensor's largest value: onnxruntime may fuse other nodes in a part than in the whole."""
BATCHES = (1, 1, 2, 7, 7)
"""Rows; of the second batch only the first step."""


def prove_cut(form: NativeForm, fp32: Runtime, pool: Sequence[Row], *, equal_lengths: bool) -> Proof:
    """Compare every tensor that passes from part to part with the same tensor of the whole FP32 graph.

    Args:
        form: the model in parts.
        fp32: the whole graph.
        pool: rows of many lengths.
        equal_lengths: rows of a batch must have one length.

    Raises:
        ExportError: a tensor differs; names the node that makes it.
    """
    proto = onnx.load_from_string(fp32.model.content)
    makers = {name: node.name or node.op_type for node in proto.graph.node for name in node.output}
    whole, parts = _whole(proto, form, fp32), _in_floats(form)
    names, largest = list(form.plan.outputs), 0.0
    for feed in _feeds(fp32, pool, equal_lengths=equal_lengths):
        expected = whole.run(feed)
        try:
            got = dict(zip(names, parts.run(names, feed), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ExportError(f"the graph cut at its recurrent nodes fails: {error}") from error
        for name in names:
            difference = _relative(got[name], expected[name])
            if not difference <= CUT_LIMIT:
                shapes = [list(array.shape) for array in (got[name], expected[name])]
                raise ExportError(
                    f"cutting the graph changes the result of node '{makers[name]}': '{name}' differs by "
                    f"{difference:.2g} of its largest value (the limit is {CUT_LIMIT:g}), shapes {shapes}"
                )
            largest = max(largest, difference)
    return Proof(
        name="cut",
        passed=True,
        measured={"relative": largest, "tensors": len(names), "batches": len(BATCHES)},
        limit={"relative": CUT_LIMIT},
    )


def _whole(proto: onnx.ModelProto, form: NativeForm, fp32: Runtime) -> Runtime:
    """Return the whole graph with all tensors of the plan as outputs."""
    answers = {output.name for output in proto.graph.output}
    known = {value.name: value for value in proto.graph.value_info}
    inner = [name for name in form.plan.outputs if name not in answers]
    proto.graph.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in inner)
    return Runtime(replace(fp32.model, content=proto.SerializeToString()))


def _in_floats(form: NativeForm) -> NativeSession:
    """Return the parts with each native layer replaced by the same operator in onnxruntime."""
    files = dict(form.files)
    parts: list[object] = []
    for part in form.plan.parts:
        if isinstance(part, RecurrentPart):
            file = plan_file(f"float-{len(files)}.onnx", form.floats[part.node])
            files[file.name] = form.floats[part.node]
            parts.append(OnnxPart(file=file, inputs=tuple(dict.fromkeys(part.inputs)), outputs=part.outputs))
        else:
            parts.append(part)
    return open_parts(files, form.plan.model_copy(update={"parts": tuple(parts)}))


def _feeds(fp32: Runtime, pool: Sequence[Row], *, equal_lengths: bool) -> Iterator[dict[str, Array]]:
    """Give batches of several sizes, with states that are not zero."""
    rng = np.random.default_rng(SEED + 3)
    state = fp32.model.state
    for place, size in enumerate(BATCHES):
        rows = [pool[i] for i in draw(rng, pool, size, equal_lengths=equal_lengths)]
        if place == 1:
            rows = [row.part(0, 1, fp32.model.inputs) for row in rows]
        feed = fp32.feed(rows)
        if state is not None:
            feed[state.input] = rng.uniform(-0.5, 0.5, (size, state.size)).astype(np.float32)
        yield feed


def _relative(got: Array, expected: Array) -> float:
    """Return the largest difference over the largest value; infinite for other shapes, or NaN on one side."""
    if got.shape != expected.shape:
        return float("inf")
    one, other = got.astype(np.float64), expected.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.nan_to_num(np.where(same, 0.0, np.abs(one - other)), nan=np.inf, posinf=np.inf)
    scale = np.abs(other[np.isfinite(other)]).max(initial=0.0)
    return float(difference.max(initial=0.0) / scale) if scale > 0 else float(difference.max(initial=0.0))
