"""A model version as the library checks requests against it."""

from serving._proto import seam_pb2 as seam
from serving.clock import NANOSECONDS_PER_SECOND
from serving.manifest import CtcDecoding, Manifest, Tensor
from serving.policy import Policy
from serving.wire.codec import calibrated_ranges
from serving.wire.outputs import Offer, Output, wire_datatype
from serving.wire.state import StateToken

MILLISECOND_NS = NANOSECONDS_PER_SECOND // 1000
LARGEST = 2**63 - 1
"""That the library counts to; files may say more, which no request comes up to."""


def version_of(manifest: Manifest, policy: Policy) -> seam.Version:
    """Describe a version and the limits of its requests."""
    ranges = calibrated_ranges(manifest, policy)
    described = seam.Version(
        model=manifest.name,
        version=str(manifest.version),
        inputs=[_input(tensor, ranges.get(tensor.name)) for tensor in manifest.inputs],
        lengths_input=manifest.lengths_input or "",
        outputs=[_output(output, manifest) for output in Offer(manifest).all],
        max_rows=policy.max_request_rows,
        max_steps=min(policy.max_steps, LARGEST),
        equal_lengths=manifest.equal_lengths,
        clips=policy.out_of_range == "clip",
    )
    if manifest.state is not None:
        token = StateToken(manifest, manifest.state)
        described.state.name = token.name
        described.state.floats = manifest.state.size
        described.state.identity = token.identity
    if policy.default_timeout_ms is not None:
        described.default_timeout_ns = min(policy.default_timeout_ms * MILLISECOND_NS, LARGEST)
    return described


def _input(tensor: Tensor, calibrated: tuple[float, float] | None) -> seam.Version.Input:
    described = seam.Version.Input(
        name=tensor.name, datatype=tensor.datatype, follows_time=tensor.follows_time, tail=_tail(tensor)
    )
    if tensor.vocabulary is not None:
        described.vocabulary = min(tensor.vocabulary, LARGEST)
    if calibrated is not None:
        described.low, described.high = calibrated
    return described


def _output(output: Output, manifest: Manifest) -> seam.Version.Output:
    kinds = seam.Version.Output
    if isinstance(output, CtcDecoding):
        return kinds(name=output.name, datatype=wire_datatype(output), kind=kinds.TEXT)
    if isinstance(output, StateToken):
        return kinds(name=output.name, datatype=wire_datatype(output), kind=kinds.STATE)
    return kinds(
        name=output.name,
        datatype=output.datatype,
        follows_time=output.follows_time,
        tail=_tail(output),
        source=[tensor.name for tensor in manifest.outputs].index(output.name),
    )


def _tail(tensor: Tensor) -> list[int]:
    """Return the sizes of the axes after rows, and steps if it has them."""
    return [axis for axis in tensor.shape[2 if tensor.follows_time else 1 :] if isinstance(axis, int)]
