"""The native INT8 engine behind the server: an answer is the same to the last bit, whoever it was batched with."""

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.socket.conftest import infer_together, read_metric, sequence, tensor
from tests.support.native import needs_library, write_native
from training.local_server import LocalServer

GROUPS = 20

pytestmark = needs_library


@pytest.fixture(scope="module")
def native_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A whole-sequence model, a stepwise one whose rows join and leave at every third step, and one that stays portable."""
    root = tmp_path_factory.mktemp("native models")
    write_native(root, "whole")
    write_native(root, "chunks", stepwise=True)
    for name, more in (("whole", ""), ("chunks", "chunk_steps: 3\n")):
        (root / name / "model.yaml").write_text(f"instances: 2\nmax_batch_rows: 4\n{more}")
    write_native(root, "portable", prefers="onnxruntime")
    with LocalServer(root) as running:
        yield running
    assert running.process.returncode == 0, "".join(running.log)


def test_the_log_says_which_engine_runs_a_version(native_server: LocalServer) -> None:
    log = "".join(native_server.log)

    assert "loaded whole version 1: int8 on cpu by native, batches whole" in log, "of four rows at most"
    assert "loaded portable version 1: int8 on cpu by onnxruntime" in log


@pytest.mark.parametrize("model", ["whole", "chunks"])
def test_answers_are_bit_equal_alone_and_in_company(native_server: LocalServer, model: str) -> None:
    rng = np.random.default_rng(3)
    pool = [sequence(rng, 1, int(rng.integers(1, 40))) * scale for scale in (1.0, 1.0, 8.0) for _ in range(8)]
    labels = {"model": model, "version": "1"}
    with triton.InferenceServerClient(native_server.address) as client:
        alone = [client.infer(model, [tensor("x", x)]) for x in pool]
        calls = read_metric(native_server, "lstm_batch_rows_count", **labels)
        rows = read_metric(native_server, "lstm_batch_rows_sum", **labels)
        for _ in range(GROUPS):
            chosen = rng.integers(len(pool), size=8)
            for number, answer in zip(chosen, infer_together(client, model, [pool[n] for n in chosen]), strict=True):
                assert isinstance(answer, triton.InferResult), answer
                for name in ("steps", "last"):
                    np.testing.assert_array_equal(answer.as_numpy(name), alone[number].as_numpy(name))
        calls = read_metric(native_server, "lstm_batch_rows_count", **labels) - calls
        rows = read_metric(native_server, "lstm_batch_rows_sum", **labels) - rows

    assert rows > calls  # they did share engine calls
