"""A real server, and what it must be after whatever has been sent to it."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
from prometheus_client.parser import text_string_to_metric_families

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.manifest import read_manifest
from tests.fuzz.calls import MODEL, SPARE
from tests.fuzz.good import Target
from tests.support.artefacts import FEATURES, write_lstm, write_two_inputs
from training.local_server import LocalServer

SECONDS = 60


class Served:
    """A server, and what it must answer whatever has been sent to it."""

    def __init__(self, root: Path, server: LocalServer, channel: grpc.Channel) -> None:
        self.targets = [Target.of(read_manifest(root / name / "1")) for name in (MODEL, "causal", "two")]
        self.server = server
        self.channel = channel
        x = np.random.default_rng(3).normal(size=(2, 7, FEATURES)).astype("<f4")
        session = onnxruntime.InferenceSession(root / MODEL / "1" / "model.onnx")
        (self._expected,) = session.run(["last"], {"x": x, "lengths": np.array([7, 7])})
        self._request = oip.ModelInferRequest(model_name=MODEL, raw_input_contents=[x.tobytes()])
        self._request.inputs.add(name="x", datatype="FP32", shape=x.shape)
        self._request.outputs.add(name="last")

    def check_unharmed(self) -> None:
        """See that it is the process that it was, answers as it did, and has written of no fault."""
        answer = GRPCInferenceServiceStub(self.channel).ModelInfer(self._request, timeout=SECONDS)
        last = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(self._expected.shape)
        np.testing.assert_allclose(last, self._expected, rtol=1e-5, atol=1e-6)
        assert self.server.process.poll() is None
        self.check_log()

    def check_log(self) -> None:
        """See that each line is an event, and none a warning."""
        events = [json.loads(line) for line in self.server.log]
        assert [event for event in events if event["level"] != "INFO"] == []

    def invalid(self) -> float:
        """Return how many requests the metrics have as invalid."""
        with urllib.request.urlopen(self.server.metrics_url, timeout=SECONDS) as page:  # noqa: S310  loopback
            families = list(text_string_to_metric_families(page.read().decode()))
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == "lstm_requests_total" and s.labels["outcome"] == "invalid")


def write_models(root: Path) -> None:
    """Write what it serves."""
    write_lstm(root, MODEL)
    write_lstm(root, "causal", bidirectional=False, stepwise=True)
    write_two_inputs(root, vocabulary=3)
    write_lstm(root, SPARE)


@contextmanager
def serving(root: Path, *flags: str) -> Iterator[Served]:
    """Start one inside, and see that it ends as it should."""
    models = [flag for name in (MODEL, "causal", "two", SPARE) for flag in ("--load-model", name)]
    with (
        LocalServer(root, "--log-format", "json", "--model-control", "explicit", *models, *flags) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        served = Served(root, server, channel)
        served.check_unharmed()
        yield served
    assert server.process.returncode == 0, "".join(server.log)
    served.check_log()
