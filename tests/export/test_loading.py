"""Factories, weights and specs: what each mistake is told."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from export.errors import ExportError
from export.pytorch.loading import lengths_parameter, load_model
from export.spec import ExportSpec, make_spec, parse_input
from tests.export.models import Causal, EncoderDecoder, TimeMajor
from tests.export.support import X, saved_weights


def _spec(**changes: Any) -> ExportSpec:
    given = {"factory": "tests.export.models:Causal", "weights": Path("w.pt"), "name": "m", "inputs": (parse_input(X),)}
    return ExportSpec(**{**given, **changes})


def test_both_forms_of_weights_give_the_same_model_without_gradients(tmp_path: Path) -> None:
    path = saved_weights(Causal, tmp_path)
    tensors = tmp_path / "w.safetensors"
    safetensors.torch.save_file(torch.load(path, weights_only=True), tensors)

    first, second = load_model(_spec(weights=path)), load_model(_spec(weights=tensors))

    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(a, b) and not a.requires_grad for a, b in pairs)
    assert not first.training


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("tests.export.absent:Causal", "cannot be imported"),
        ("tests.export.models:Absent", "cannot be imported.*Absent"),
        ("tests.export.models:FEATURES", "is a int, not something that can be called"),
        ("tests.export.models:failing", "RuntimeError: no such checkpoint folder"),
        ("tests.export.models:not_a_model", "returned a int"),
    ],
)
def test_a_factory_that_gives_no_model_is_named(factory: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        load_model(_spec(factory=factory))


def test_weights_that_do_not_fit_are_named_key_by_key(tmp_path: Path) -> None:
    state = torch.load(saved_weights(Causal, tmp_path), weights_only=True)
    state["head.bias"] = state.pop("fc.bias")
    state["fc.weight"] = torch.zeros(7, 5)
    torch.save(state, tmp_path / "other.pt")

    with pytest.raises(ExportError) as caught:
        load_model(_spec(weights=tmp_path / "other.pt"))

    assert "Missing keys: ['fc.bias']" in str(caught.value)
    assert "unexpected keys: ['head.bias']" in str(caught.value)
    assert "fc.weight is [7, 5] in the file and [4, 5] in the model" in str(caught.value)


class _Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Touch(tmp_path / "ran")))

    with pytest.raises(ExportError, match="not a state dict"):
        load_model(_spec(weights=tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()


def test_a_whole_model_or_a_checkpoint_is_not_a_state_dict(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "model.pt")
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "checkpoint.pt")

    with pytest.raises(ExportError, match="whole pickled model"):
        load_model(_spec(weights=tmp_path / "model.pt"))
    with pytest.raises(ExportError, match=r"\['epoch', 'state_dict'\], not a plain state dict"):
        load_model(_spec(weights=tmp_path / "checkpoint.pt"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("absent.pt", None, "cannot be read"), ("bad.safetensors", b"no", "safetensors"), ("bad.pt", b"", "state dict")],
)
def test_unreadable_weights_are_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(ExportError, match=message):
        load_model(_spec(weights=tmp_path / name))


def test_the_lengths_go_to_the_parameter_of_that_name_or_the_one_given() -> None:
    assert lengths_parameter(TimeMajor(), _spec()) == "lengths"
    assert lengths_parameter(Causal(), _spec()) is None
    both = (parse_input(X), parse_input("tokens:int64[batch,time]"))
    assert lengths_parameter(EncoderDecoder(), _spec(inputs=both, lengths_argument="bias")) == "bias"


def test_inputs_that_forward_does_not_take_or_lacks_are_named() -> None:
    with pytest.raises(ExportError, match=r"not parameters of it: \['z'\]; parameters without an input: \['x'\]"):
        lengths_parameter(Causal(), _spec(inputs=(parse_input("z:float32[batch,time,3]"),)))


def test_axes_are_parsed_and_put_batch_first() -> None:
    parsed = parse_input("x: float32[ 7, time,batch]")

    assert parsed.axes == (7, "time", "batch")
    assert parsed.tensor.shape == ("batch", "time", 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "NAME:DTYPE"),
        ("x:float32", "NAME:DTYPE"),
        ("x:float16[batch,time]", "dtype 'float16'"),
        ("x:float32[time,3]", "'batch' once"),
        ("x:float32[batch,batch]", "'batch' once"),
        ("x:float32[batch,time,time]", "'time' once"),
        ("x:float32[batch,steps]", "'batch', 'time' or a number"),
        ("x:float32[batch,0]", "above 0"),
        ("lengths:int64[batch]", "--lengths-argument"),
    ],
)
def test_inputs_of_another_form_are_told_the_form(text: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        parse_input(text)


YAML = """
factory: a.b:C
weights: w.pt
name: m
inputs: {x: "float32[batch,time,3]", tokens: "int64[batch,time]"}
outputs: [y]
"""


def test_flags_override_the_spec_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(YAML)

    spec = make_spec(path, {"name": "other", "weights": None})

    assert (spec.name, spec.weights, spec.outputs) == ("other", Path("w.pt"), ("y",))
    assert [model_input.name for model_input in spec.inputs] == ["x", "tokens"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (YAML + "colour: red", "colour"),
        (YAML.replace("w.pt", "[1]"), "weights"),
        (YAML.replace("a.b:C", "a.b"), "factory"),
        ("- a\n- b", "mapping"),
        ("{", "not valid YAML"),
        ("name: m", "factory"),
    ],
)
def test_a_wrong_spec_file_is_told_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(content)

    with pytest.raises(ExportError, match=message):
        make_spec(path, {})
