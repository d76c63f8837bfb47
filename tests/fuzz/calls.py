"""Every method that the server offers, and messages for it: good ones, damaged ones, and bytes that never were one."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from serving._proto import open_inference_pb2 as oip
from tests.fuzz import broken
from tests.fuzz.good import Target
from tests.fuzz.kinds import SEED, SHARES, draw

OURS = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICES = (
    OURS,
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)
MODEL, SPARE = "kept", "spare"
"""The one that must go on serving, and the one that calls may load and unload."""
NAMED = {"name": MODEL, "version": "1"}
Reflect = reflection_pb2.ServerReflectionRequest
GOOD: dict[str, Sequence[Message]] = {
    "ServerLive": (oip.ServerLiveRequest(),),
    "ServerReady": (oip.ServerReadyRequest(),),
    "ServerMetadata": (oip.ServerMetadataRequest(),),
    "ModelReady": (oip.ModelReadyRequest(**NAMED), oip.ModelReadyRequest(name=MODEL)),
    "ModelMetadata": (oip.ModelMetadataRequest(**NAMED), oip.ModelMetadataRequest(name=MODEL)),
    "ModelConfig": (oip.ModelConfigRequest(**NAMED), oip.ModelConfigRequest(name=MODEL)),
    "ModelStatistics": (oip.ModelStatisticsRequest(**NAMED), oip.ModelStatisticsRequest()),
    "RepositoryIndex": (oip.RepositoryIndexRequest(ready=True), oip.RepositoryIndexRequest(repository_name="other")),
    "RepositoryModelLoad": (
        oip.RepositoryModelLoadRequest(model_name=SPARE),
        oip.RepositoryModelLoadRequest(
            model_name=SPARE, parameters={"config": oip.ModelRepositoryParameter(string_param="{}")}
        ),
        oip.RepositoryModelLoadRequest(repository_name="other", model_name=SPARE),
    ),
    "RepositoryModelUnload": (
        oip.RepositoryModelUnloadRequest(model_name=SPARE),
        oip.RepositoryModelUnloadRequest(repository_name="other", model_name=SPARE),
    ),
    "Check": (health_pb2.HealthCheckRequest(), health_pb2.HealthCheckRequest(service=OURS.full_name)),
    "Watch": (health_pb2.HealthCheckRequest(), health_pb2.HealthCheckRequest(service=OURS.full_name)),
    "ServerReflectionInfo": (
        Reflect(list_services=""),
        Reflect(file_by_filename="open_inference.proto"),
        Reflect(file_containing_symbol=OURS.full_name, host="here"),
        Reflect(file_containing_extension={"containing_type": "inference.InferParameter", "extension_number": 5}),
        Reflect(all_extension_numbers_of_type="inference.InferParameter"),
    ),
}


@dataclass(frozen=True)
class Method:
    """One of them.

    Attributes:
        name: without its service.
        path: with it, as calls name it.
        asks_on: whether a call may bring many messages.
        answers_on: whether it may have many answers.
        answer: kind of message that it answers with.
    """

    name: str
    path: str
    asks_on: bool
    answers_on: bool
    answer: type[Message]


METHODS = tuple(
    Method(
        method.name,
        f"/{service.full_name}/{method.name}",
        method.client_streaming,
        method.server_streaming,
        GetMessageClass(method.output_type),
    )
    for service in SERVICES
    for method in service.methods
)


def message(method: Method, targets: Sequence[Target], number: int) -> bytes:
    """Return message number so-and-so of a method; the same for the same seed."""
    rng = Random(f"{SEED}/{method.name}/{number}")  # noqa: S311  repeatable
    if method.name in GOOD:
        good = [each.SerializeToString() for each in GOOD[method.name]]
        kind = rng.choice(("good", "damaged", "damaged", "fields", "noise"))
        match kind:
            case "good":
                return rng.choice(good)
            case "damaged":
                return broken.damaged(rng, rng.choice(good), rng.choice(good))
            case "fields":
                return broken.fields(rng)
            case _:
                return broken.noise(rng)
    (kind,) = rng.choices(tuple(SHARES), tuple(SHARES.values()))
    return draw(targets, kind, number)[1]
