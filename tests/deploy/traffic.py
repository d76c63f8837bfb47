"""Requests of every kind to a small server, so that all of its metrics have something to tell."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support.artefacts import FEATURES, write_lstm
from training.local_server import LocalServer

SECONDS = 60
PAUSE_SECONDS = 0.05
MOST_ROUNDS = 6000
"""Five minutes: an end, should nobody end it."""
HURRIED_SECONDS = 0.001


def write_models(root: Path) -> None:
    """Write a model of each kind of batching, and one whose file was changed after its proofs were made."""
    write_lstm(root, "whole")
    write_lstm(root, "stepwise", bidirectional=False, stepwise=True)
    changed = write_lstm(root, "refused") / "model.onnx"
    changed.write_bytes(changed.read_bytes() + b"\0")


@contextmanager
def busy_server(folder: Path) -> Iterator[LocalServer]:
    """Run a server inside and send it requests: good and malformed ones, ones for no model, ones that cannot be in time."""
    write_models(folder)
    enough = threading.Event()
    with LocalServer(folder) as server, grpc.insecure_channel(server.address) as channel:
        sender = threading.Thread(target=_send, args=(GRPCInferenceServiceStub(channel), enough))
        sender.start()
        try:
            yield server
        finally:
            enough.set()
            sender.join()


def _send(stub: GRPCInferenceServiceStub, enough: threading.Event) -> None:
    rng = np.random.default_rng(1)
    for _ in range(MOST_ROUNDS):
        calls = [
            stub.ModelInfer.future(_request(model, rng), timeout=SECONDS)
            for model in ("whole", "stepwise")
            for _ in range(4)
        ]
        malformed = _request("whole", rng)
        malformed.raw_input_contents[0] = b""
        calls.append(stub.ModelInfer.future(malformed, timeout=SECONDS))
        calls.append(stub.ModelInfer.future(_request("nobody", rng), timeout=SECONDS))
        calls.append(stub.ModelInfer.future(_request("whole", rng), timeout=HURRIED_SECONDS))
        for call in calls:
            with suppress(grpc.RpcError):
                call.result()
        if enough.wait(PAUSE_SECONDS):
            return


def _request(model: str, rng: np.random.Generator) -> oip.ModelInferRequest:
    rows, steps = rng.integers(1, 4), rng.integers(2, 40)
    x = rng.normal(size=(rows, steps, FEATURES)).astype("<f4")
    request = oip.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request
