"""Plans of a model in parts: what they read and make, and which of them cannot be run."""

from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from serving.plan import OnnxPart, Plan, PlanFile, RecurrentPart, ViewPart

Parts = Sequence[OnnxPart | ViewPart | RecurrentPart]


def file(name: str) -> PlanFile:
    return PlanFile(name=name, sha256="0" * 64, bytes=1)


def plan(*parts: OnnxPart | ViewPart | RecurrentPart) -> Plan:
    return Plan(weights=file("weights.bin"), parts=parts)


def lstm(x: str, y: str, lengths: str | None = None) -> RecurrentPart:
    return RecurrentPart(node="lstm", operator="LSTM", layer=0, x=x, y=y, lengths=lengths)


def test_a_plan_reads_what_no_part_makes_and_names_its_files() -> None:
    first = OnnxPart(file=file("part-0.onnx"), inputs=("tokens",), outputs=("x",))
    head = OnnxPart(file=file("part-1.onnx"), inputs=("steps", "tokens"), outputs=("scores",))

    found = plan(first, lstm("x", "y", "lengths"), ViewPart(operator="Squeeze", input="y", output="steps"), head)

    assert found.inputs == ("tokens", "lengths")
    assert found.outputs == ("x", "y", "steps", "scores")
    assert [entry.name for entry in found.files] == ["weights.bin", "part-0.onnx", "part-1.onnx"]
    assert Plan.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((lstm("x", "y"), lstm("z", "y")), "tensor 'y' is made twice"),
        ((lstm("x", "y"), ViewPart(operator="Identity", input="z", output="x")), "'x' is made twice, or after it"),
        ((lstm("x", "x"),), "'x' is made twice, or after it was read"),
        ((ViewPart(operator="Identity", input="x", output="y"),), "no part is recurrent"),
        ((), "at least 1 item"),
    ],
)
def test_a_plan_that_cannot_be_run_in_order_is_refused(parts: Parts, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        plan(*parts)


@pytest.mark.parametrize("axes", [(), (1, 2), (1, -3, 2), (1, 0, 2, 4)])
def test_a_slice_has_an_axis_and_two_ends(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="expected an axis, a start and a stop"):
        ViewPart(operator="Slice", input="x", output="y", axes=axes)


def test_a_file_of_a_plan_lies_in_its_folder() -> None:
    for name in ("../model.onnx", "/etc/passwd", ".hidden", "a/b", ""):
        with pytest.raises(ValidationError, match="name"):
            file(name)
