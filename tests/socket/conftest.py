"""A real `lstm-serve` with tiny real models, called by tritonclient. Nothing here may import `serving._proto`."""

import os
import queue
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from filelock import FileLock
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from tests.socket.readme import ROOT, blocks
from tests.support.artefacts import FEATURES, write_lstm, write_two_inputs
from training.local_server import LocalServer

WIRE = os.environ.get("LSTM_SERVE_WIRE")
"""What `make test` has these tests run on once more, where the native front was built: it is what servers choose."""
if WIRE == "grpcio":
    collect_ignore = [
        "test_demo_outcome.py",  # what a newcomer sees and builds: no front makes a difference
        "test_export_guide.py",
        "test_families.py",
        "test_readme.py",
        "test_serving_environment.py",
        "test_soak.py",
    ]

pytest.register_assert_rewrite(
    "tests.socket.triton_clients", "tests.socket.triton_control", "tests.socket.triton_streams"
)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good models of every kind, one with tight limits, and one whose file was tampered with."""
    root = tmp_path_factory.mktemp("model repository")
    write_lstm(root, "lstm", 1)
    write_lstm(root, "lstm", 2, seed=2)
    write_lstm(root, "causal", bidirectional=False, stepwise=True)
    write_lstm(root, "alike", equal_lengths=True)
    write_lstm(root, "int8", int8_range=(-1.0, 1.0))
    write_two_inputs(root)
    write_lstm(root, "paired", bidirectional=False, stepwise=True)
    (root / "paired" / "model.yaml").write_text("instances: 2\nchunk_steps: 3\nmax_batch_rows: 4\n")
    write_lstm(root, "tight", hidden=128)  # slow enough to be caught at work
    (root / "tight" / "model.yaml").write_text(
        "max_batch_rows: 1\nmax_request_rows: 2\nmax_queue_rows: 2\nmax_steps: 100000\n"
    )
    tampered = write_lstm(root, "tampered") / "model.onnx"
    tampered.write_bytes(tampered.read_bytes() + b"\0")
    return root


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[LocalServer]:
    with LocalServer(repository) as running:
        yield running
    assert running.process.returncode == 0, "".join(running.log)


@pytest.fixture
def client(server: LocalServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> str:
    """Run `make demo` as a newcomer would, once for all processes of these tests; returns what it printed."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder if worker_id == "master" else folder.parent
    printed = shared / "demo.txt"
    with FileLock(shared / "demo.lock"):
        if not printed.exists():
            printed.write_text(run_demo())
    return printed.read_text()


def run_demo() -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    ended = subprocess.run(
        ["make", "demo"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="session")
def workplace(demo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository after the demo, with nothing exported yet."""
    assert demo
    place = tmp_path_factory.mktemp("my project")
    for name in (".venv", "demo-output", "training"):
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.fixture(scope="session")
def newcomers_models(workplace: Path) -> Path:
    """What `Bring your own model` leaves behind."""
    bring_your_own = next(block for block in blocks("sh") if "lstm-export" in block)
    subprocess.run(["sh", "-e", "-c", bring_your_own], cwd=workplace, check=True, timeout=600)
    return workplace / "models"


@pytest.fixture(scope="session")
def newcomers_server(newcomers_models: Path) -> Iterator[LocalServer]:
    """The models of `Bring your own model`, served."""
    with LocalServer(newcomers_models) as running:
        yield running


Scrape = Callable[..., float]


@pytest.fixture
def scrape(server: LocalServer) -> Scrape:
    """Read one sample of the server's metrics; 0.0 if it is not there."""
    return lambda name, **labels: read_metric(server, name, **labels)


def read_metric(server: LocalServer, name: str, **labels: str) -> float:
    """Return the value of one sample on `/metrics`, 0.0 without it."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as page:  # noqa: S310  loopback
        families = text_string_to_metric_families(page.read().decode())
    samples = (sample for family in families for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def tensor(name: str, array: np.ndarray) -> triton.InferInput:
    """Make tritonclient's input of an array."""
    datatype = {"f": "FP32", "i": f"INT{8 * array.dtype.itemsize}"}[array.dtype.kind]
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def sequence(rng: np.random.Generator, rows: int, steps: int) -> np.ndarray:
    """Draw float32[rows, steps, features]."""
    return rng.normal(size=(rows, steps, FEATURES)).astype(np.float32)


def infer_together(
    client: triton.InferenceServerClient, model: str, inputs: list[np.ndarray], **options: object
) -> list[triton.InferResult | InferenceServerException]:
    """Send all requests before any is awaited; return each one's answer or error, in the order given."""
    done: queue.Queue[tuple[int, triton.InferResult | InferenceServerException]] = queue.Queue()
    for number, x in enumerate(inputs):
        client.async_infer(
            model,
            [tensor("x", x)],
            callback=lambda result, error, number=number: done.put((number, error or result)),
            **options,
        )
    outcomes = dict(done.get(timeout=60) for _ in inputs)
    return [outcomes[number] for number in range(len(inputs))]
