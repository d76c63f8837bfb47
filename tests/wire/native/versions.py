"""Model versions of every kind that requests can be checked against, by their descriptions alone: nothing here runs."""

from dataclasses import dataclass
from typing import Any

from serving.manifest import CtcDecoding, Int8, Manifest, ModelFile, State, Tensor
from serving.policy import Policy
from tests.fuzz.good import MOST_ROWS, MOST_STEPS, Target

X = Tensor(name="x", datatype="FP32", shape=("batch", "time", 3))
STEPS = Tensor(name="steps", datatype="FP32", shape=("batch", "time", 4))
LAST = Tensor(name="last", datatype="FP32", shape=("batch", 4))
ENORMOUS = 10**30
"""More than 64 bits hold; both files may say it."""


@dataclass(frozen=True)
class Version:
    """A model version and the limits of its requests."""

    manifest: Manifest
    policy: Policy

    @property
    def target(self) -> Target:
        return Target.of(self.manifest)


def version(
    name: str,
    *inputs: Tensor,
    outputs: tuple[Tensor, ...] = (STEPS, LAST),
    span: tuple[float, float] | None = None,
    limits: dict[str, Any] | None = None,
    **described: Any,
) -> Version:
    """Describe a version; with `span` it is an INT8 model calibrated on it."""
    if span is not None:
        int8 = Int8(engine="onnxruntime", per_channel=True, reduce_range=False, quantized_nodes=(), source_version=1)
        described |= {"precision": "int8", "int8": int8, "input_range": {"x": span}}
    manifest = Manifest(
        **{
            "name": name, "version": 1, "precision": "fp32", "inputs": inputs or (X,), "outputs": outputs,
            "lengths_input": "lengths", "stepwise": "state" in described, "proofs": (), "tools": {}, "created": "",
            "file": ModelFile(sha256="5a" * 32, bytes=1), **described,
        }
    )  # fmt: skip
    return Version(manifest, Policy(**{"max_request_rows": MOST_ROWS, "max_steps": MOST_STEPS} | (limits or {})))


TOKENS = Tensor(name="tokens", datatype="INT64", shape=("batch", "time"), vocabulary=3)
BIAS = Tensor(name="bias", datatype="FP32", shape=("batch", 3))
MARKS = Tensor(name="marks", datatype="INT32", shape=("batch", "time", 2), vocabulary=5)
FREE = Tensor(name="free", datatype="INT32", shape=("batch",))
COUNT = Tensor(name="count", datatype="INT64", shape=("batch",))
GRADES = Tensor(name="grades", datatype="INT32", shape=("batch", "time", 2, 2))
LOG_PROBS = Tensor(name="log_probs", datatype="FP32", shape=("batch", "time", 2))
TEXT = CtcDecoding(name="text", source="log_probs", method="greedy", symbols=("", "a"))

VERSIONS = (
    version("lstm"),
    version("causal", state=State(input="state", output="next_state", size=8)),
    version("alike", equal_lengths=True),
    version("unpadded", equal_lengths=True, lengths_input=None),
    version("clipped", span=(-1.0, 1.0)),
    version("raised", span=(0.3, 2.0)),
    version("lowered", span=(-2.0, -0.1)),
    version("ranged", span=(-2.5, 2.5), limits={"out_of_range": "refuse"}),
    version("any", span=(-0.5, 0.5), limits={"out_of_range": "allow"}),
    version("two", TOKENS, X, BIAS, limits={"default_timeout_ms": 50}),
    version("marked", MARKS, FREE, outputs=(GRADES, COUNT), state=State(input="state", output="next_state", size=8)),
    version("ctc", outputs=(LOG_PROBS,), decodings=(TEXT,)),
    version("limitless", limits={"max_steps": ENORMOUS, "default_timeout_ms": ENORMOUS}),
)
