"""What a server serves: asked once, before the load, by the calls of the protocol."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import numpy as np

from loadtests import answers
from loadtests.traffic.errors import TrafficError
from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.status.arguments import TOKEN_VARIABLE
from serving.status.calls import Calls, Denied
from serving.status.errors import CannotLook
from serving.status.target import Target

GRPC_PORT, METRICS_PORT = 8001, 8002
SECONDS = 10.0
"""That a question may take."""
FEW_TOKENS = 2
"""Of integers whose table's size the server does not tell: every table has so many."""
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # what is sent again, and when, is for the load to say
    ("grpc.use_local_subchannel_pool", 1),  # each channel has a connection of its own
    ("grpc.max_receive_message_length", -1),
)
DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8")}


class Input(NamedTuple):
    """A tensor that a model takes: its name, datatype, axes behind the rows (-1: steps), and values below `tokens`."""

    name: str
    datatype: str
    axes: tuple[int, ...]
    tokens: int

    @property
    def follows_time(self) -> bool:
        """Whether it has a value, or a vector, for each step."""
        return bool(self.axes) and self.axes[0] < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model version under load.

    Attributes:
        name: of the model.
        version: that is asked for; empty: the newest.
        inputs: that a request has.
        most_steps: that a row may have.
        state: name of the tensor that a stream carries; empty if the model is not stepwise.
        unchecked: why its answers cannot be compared; empty if they can.
    """

    name: str
    version: str
    inputs: tuple[Input, ...]
    most_steps: int
    state: str
    unchecked: str


def read_target(host: str, metrics_port: int = METRICS_PORT) -> Target:
    """Return the server that `HOST`, `HOST:PORT` or `[IPv6]:PORT` means; its token comes from the environment.

    Raises:
        TrafficError: it is none of these.
    """
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, str(GRPC_PORT)
    name = name.removeprefix("[").removesuffix("]")
    if "/" in host or not name or any(letter.isspace() for letter in host):
        raise TrafficError(f"--host {host}: expected HOST:PORT of a gRPC port, without a scheme, as 127.0.0.1:8001")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise TrafficError(f"--host {host}: '{port}' is no port; expected 1 to 65535")
    token = os.environ.get(TOKEN_VARIABLE) or None
    return Target(host=name, grpc_port=int(port), metrics_port=metrics_port, token=token)


def metadata_of(target: Target) -> tuple[tuple[str, str], ...]:
    """Return what each call brings."""
    return () if target.token is None else (("authorization", f"Bearer {target.token}"),)


def look(target: Target, names: Sequence[str], engines: Sequence[answers.Served] | None) -> list[ServedModel]:
    """Ask a server what it serves.

    Args:
        target: the server.
        names: models that are wanted, `NAME` or `NAME/VERSION`; empty: all that serve.
        engines: what computes each version, from the metrics; None if they cannot be read.

    Raises:
        TrafficError: nobody answers there, or not as this protocol has it, or a model is not served.
    """
    serving = _serving(target)
    if not names:
        names = serving
    if not names:
        raise TrafficError(f"{target.address} serves no model; load one, or name those that it would serve by --models")
    with grpc.insecure_channel(target.address, OPTIONS) as channel:
        stub = GRPCInferenceServiceStub(channel)
        return [_model(stub, target, name, serving, engines) for name in names]


def _serving(target: Target) -> list[str]:
    """Return the models that serve; none where this caller may not ask."""
    try:
        with Calls(target) as calls:
            if not calls.server().ready:
                raise TrafficError(f"{target.address} answers, but is not ready; wait until its models are loaded")
            return sorted({each.model for each in calls.index() if each.state == "READY"})
    except Denied:
        return []
    except CannotLook as error:
        raise TrafficError(str(error)) from error


def _model(
    stub: GRPCInferenceServiceStub,
    target: Target,
    wanted: str,
    serving: Sequence[str],
    engines: Sequence[answers.Served] | None,
) -> ServedModel:
    name, _, version = wanted.partition("/")
    try:
        told = stub.ModelMetadata(
            oip.ModelMetadataRequest(name=name, version=version), timeout=SECONDS, metadata=metadata_of(target)
        )
        config = stub.ModelConfig(
            oip.ModelConfigRequest(name=name, version=version), timeout=SECONDS, metadata=metadata_of(target)
        ).config
    except grpc.RpcError as error:
        which = f"; it serves {', '.join(serving)}" if serving else ""
        raise TrafficError(
            f"{target.address} does not serve '{wanted}': {error.code().name} ({error.details()}){which}"
        ) from error
    inputs = []
    for tensor in told.inputs:
        if tensor.datatype not in DTYPES:
            raise TrafficError(
                f"'{wanted}' takes {tensor.datatype} as '{tensor.name}'; expected one of {', '.join(DTYPES)}"
            )
        tokens = int(told.properties.get(f"vocabulary.{tensor.name}", FEW_TOKENS))
        inputs.append(Input(tensor.name, tensor.datatype, tuple(tensor.shape[1:]), tokens))
    return ServedModel(
        name=name,
        version=version,
        inputs=tuple(inputs),
        most_steps=int(config.parameters["max_steps"].string_value or 4096),
        state=told.properties.get("state_input", ""),
        unchecked=_unchecked(name, version or told.versions[-1], told.properties["precision"], engines),
    )


def _unchecked(name: str, version: str, precision: str, engines: Sequence[answers.Served] | None) -> str:
    if precision != "int8":
        return ""
    if engines is None:
        return "it is INT8, and without the server's metrics nobody can tell whether its engine is exact"
    if any(each.depends_on_company for each in engines if (each.model, each.version) == (name, version)):
        return "ONNX Runtime computes its INT8, whose answers depend on what shares a batch"
    return ""
