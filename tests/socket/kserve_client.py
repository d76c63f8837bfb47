"""What `test_kserve.py` runs in KServe's environment: calls a server by KServe's client, and prints what came as JSON.

Usage: python kserve_client.py HOST:PORT TOKEN X.npy. It must not import anything of this project.
"""

import asyncio
import json
import sys
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from kserve.protocol.infer_type import RequestedOutput

STEPS_OF_FIRST_PIECE = 3
LONG = 50_000
"""Steps, too many for a millisecond."""


def raw(name: str, array: np.ndarray, datatype: str) -> InferInput:
    """Make an input whose bytes go into raw_input_contents."""
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=True)
    return made


def typed(name: str, array: np.ndarray, datatype: str) -> InferInput:
    """Make an input whose values go into typed contents."""
    return InferInput(name, list(array.shape), datatype, data=array.ravel().tolist())


def told(response: InferResponse) -> dict[str, Any]:
    """Return an answer in words of JSON."""
    return {
        "model": [response.model_name, response.model_version],
        "id": response.id,
        "outputs": {output.name: tensor(output) for output in response.outputs},
    }


def tensor(output: InferOutput) -> dict[str, Any]:
    """Return name, shape and values, text as text."""
    values = output.as_numpy()
    listed = [each.decode() for each in values.ravel()] if output.datatype == "BYTES" else values.tolist()
    return {"datatype": output.datatype, "shape": list(output.shape), "values": listed}


async def refused(asking: Any) -> list[str]:
    """Return code and details of what must fail."""
    try:
        answer = await asking
    except grpc.aio.AioRpcError as error:
        return [error.code().name, error.details()]
    raise AssertionError(f"this was to fail, and gave {answer}")


async def call(address: str, token: str, x: np.ndarray) -> dict[str, Any]:
    """Call everything that the client has, and of the stub what the client leaves out."""
    headers = (("authorization", f"Bearer {token}"),)

    def request(model: str, *inputs: InferInput, **options: Any) -> InferRequest:
        return InferRequest(model_name=model, infer_inputs=list(inputs), **options)

    async with InferenceGRPCClient(address) as client:

        async def infer(model: str, *inputs: InferInput, **options: Any) -> InferResponse:
            response: InferResponse = await client.infer(request(model, *inputs, **options), headers=headers)
            return response

        begun = await infer("causal", raw("x", x[:, :STEPS_OF_FIRST_PIECE], "FP32"))
        state = begun.get_output_by_name("state").as_numpy()
        rest = raw("x", x[:, STEPS_OF_FIRST_PIECE:], "FP32")
        lengths = np.arange(1, len(x) + 1)
        answers = {
            "raw": await infer("lstm", raw("x", x, "FP32"), request_id="mine"),
            "typed": await infer("lstm", typed("x", x, "FP32")),
            "raw lengths": await infer("lstm", raw("x", x, "FP32"), raw("lengths", lengths, "INT64")),
            "typed lengths": await infer("lstm", typed("x", x, "FP32"), typed("lengths", lengths, "INT64")),
            "version": await infer("lstm", raw("x", x, "FP32"), model_version="1"),
            "one output": await infer("lstm", raw("x", x, "FP32"), request_outputs=[RequestedOutput("last")]),
            "parameters": await infer("lstm", raw("x", x, "FP32"), parameters={"priority": 1, "timeout": 60_000_000}),
            "whole": await infer("causal", raw("x", x, "FP32")),
            "in pieces": await infer("causal", rest, raw("state", state, "UINT8")),
            "text": await infer("ctc", raw("x", x, "FP32")),
        }
        long = raw("x", np.zeros((1, LONG, x.shape[2]), np.float32), "FP32")
        doubles = raw("x", x.astype(np.float64), "FP64")
        failures = {
            "no token": await refused(client.infer(request("lstm", raw("x", x, "FP32")))),
            "model": await refused(infer("nobody", raw("x", x, "FP32"))),
            "ready": await refused(client.is_model_ready("nobody", headers=headers)),
            "datatype": await refused(infer("lstm", doubles)),
            "timeout": await refused(client.infer(request("slow", long), headers=headers, timeout=0.001)),
        }
        ready = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "lstm": await client.is_model_ready("lstm", headers=headers),
            "tampered": await client.is_model_ready("tampered", headers=headers),
        }
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        server = await stub.ServerMetadata(pb.ServerMetadataRequest(), metadata=headers)
        model = await stub.ModelMetadata(pb.ModelMetadataRequest(name="lstm"), metadata=headers)
        failures["load"] = await refused(
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="lstm"), metadata=headers)
        )
    sides = {"inputs": model.inputs, "outputs": model.outputs}
    return {
        "ready": ready,
        "answers": {name: told(answer) for name, answer in answers.items()},
        "failures": failures,
        "server": [server.name, list(server.extensions)],
        "metadata": {
            "model": [model.name, list(model.versions), model.platform],
            **{
                side: [[each.name, each.datatype, list(each.shape)] for each in tensors]
                for side, tensors in sides.items()
            },
        },
    }


if __name__ == "__main__":
    json.dump(asyncio.run(call(sys.argv[1], sys.argv[2], np.load(sys.argv[3]))), sys.stdout)
