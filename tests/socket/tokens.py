"""Tokens, their file, and calls that show them."""

import hashlib
from typing import Any, NamedTuple

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.support.artefacts import FEATURES

OK = grpc.StatusCode.OK
SECONDS = 60


class Entry(NamedTuple):
    """Of the tokens' file; the token is the name with something in front."""

    name: str
    rights: dict[str, Any]

    @property
    def token(self) -> str:
        return f"token-of-{self.name}"

    def written(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": hashlib.sha256(self.token.encode()).hexdigest(), **self.rights}


def infer_request(model: str) -> pb.ModelInferRequest:
    x = np.zeros((1, 2, FEATURES), "<f4")
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request


def bearer(value: str | None) -> list[tuple[str, str]]:
    return [] if value is None else [("authorization", value)]


class Answer(NamedTuple):
    code: grpc.StatusCode
    details: str
    reason: str


def call(channel: grpc.Channel, method: str, request: Any, token: str | None) -> Answer:
    """Return how a call ended; of a stream, how its one message did."""
    behave = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)
    try:
        if method != "ModelStreamInfer":
            behave(request, metadata=bearer(token), timeout=SECONDS)
            return Answer(OK, "", "")
        (answer,) = behave(iter([request]), metadata=bearer(token), timeout=SECONDS)
    except grpc.RpcError as error:
        return Answer(error.code(), error.details(), dict(error.trailing_metadata()).get("reason", ""))
    if not answer.error_message:
        return Answer(OK, "", "")
    told = answer.infer_response.parameters
    code = grpc.StatusCode[told["grpc_status"].string_param]
    return Answer(code, answer.error_message, told["reason"].string_param)
