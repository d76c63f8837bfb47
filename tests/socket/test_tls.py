"""TLS on a real port: who is let in, who is not, and certificates that change under open connections."""

import datetime as dt
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.socket.conftest import sequence, tensor
from tests.support.artefacts import write_lstm
from training.local_server import LSTM_SERVE, LocalServer

OK = grpc.StatusCode.OK
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SECONDS = 60
PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class Authority:
    """An authority, and what it has signed."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def pair(self, name: str = "127.0.0.1", *, expired: bool = False) -> tuple[bytes, bytes]:
        """Return a key and its certificate chain."""
        times = {"not_before": PAST, "not_after": PAST + dt.timedelta(days=1)} if expired else {}
        signed = self._ca.issue_cert(name, **times)
        return signed.private_key_pem.bytes(), b"".join(part.bytes() for part in signed.cert_chain_pems)


class Secret:
    """A folder as Kubernetes mounts it: files are links through a link `..data`, which a renewal swaps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        folder.mkdir()
        self.certificate.symlink_to("..data/tls.crt")
        self.key.symlink_to("..data/tls.key")

    @property
    def flags(self) -> tuple[str, ...]:
        return "--tls-certificate", str(self.certificate), "--tls-key", str(self.key)

    def put(self, pair: tuple[bytes, bytes]) -> None:
        self._count += 1
        content = self._folder / f"..{self._count}"
        content.mkdir()
        (content / "tls.key").write_bytes(pair[0])
        (content / "tls.crt").write_bytes(pair[1])
        aside = self._folder / "..aside"
        aside.symlink_to(content.name)
        aside.rename(self._folder / "..data")


@contextmanager
def connected(
    address: str, roots: bytes, pair: tuple[bytes, bytes] | None = None
) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """A connection of its own, and nobody else's."""
    key, certificate = pair or (None, None)
    credentials = grpc.ssl_channel_credentials(roots, key, certificate)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, credentials, options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def live(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> grpc.StatusCode:
    code: grpc.StatusCode = stub.ServerLive.future(pb.ServerLiveRequest(), timeout=SECONDS).code()
    return code


def code_of(address: str, roots: bytes, pair: tuple[bytes, bytes] | None = None) -> grpc.StatusCode:
    with connected(address, roots, pair) as stub:
        return live(stub)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_lstm(root)
    return root


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def secret(tmp_path: Path, authority: Authority) -> Secret:
    made = Secret(tmp_path / "secret")
    made.put(authority.pair())
    return made


def test_a_client_that_trusts_the_authority_is_served_and_others_refuse(
    models: Path, secret: Secret, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    with LocalServer(models, *secret.flags) as server:
        with triton.InferenceServerClient(
            server.address, ssl=True, root_certificates=str(tmp_path / "ca.pem")
        ) as client:
            x = sequence(np.random.default_rng(0), 1, 3)
            assert client.infer("lstm", [tensor("x", x)]).as_numpy("steps").shape[:2] == (1, 3)

        assert code_of(server.address, Authority().pem) is UNAVAILABLE
        with grpc.insecure_channel(server.address) as plain:
            assert live(service_pb2_grpc.GRPCInferenceServiceStub(plain)) is UNAVAILABLE


def test_an_expired_certificate_is_refused_by_clients(models: Path, secret: Secret, authority: Authority) -> None:
    secret.put(authority.pair(expired=True))
    with LocalServer(models, *secret.flags) as server:
        assert code_of(server.address, authority.pem) is UNAVAILABLE


def test_mtls_lets_in_whom_the_authority_of_clients_has_signed(
    models: Path, secret: Secret, authority: Authority, tmp_path: Path
) -> None:
    clients = Authority()
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    with LocalServer(models, *secret.flags, "--tls-client-ca", str(tmp_path / "clients.pem")) as server:
        assert code_of(server.address, authority.pem, clients.pair("client")) is OK
        assert code_of(server.address, authority.pem) is UNAVAILABLE
        assert code_of(server.address, authority.pem, authority.pair("client")) is UNAVAILABLE
        assert code_of(server.address, authority.pem, clients.pair("client", expired=True)) is UNAVAILABLE


def test_a_renewed_certificate_is_used_by_new_connections_and_open_ones_go_on(models: Path, secret: Secret) -> None:
    before, after = Authority(), Authority()
    secret.put(before.pair())
    with LocalServer(models, *secret.flags) as server, connected(server.address, before.pem) as old:
        assert live(old) is OK
        secret.put(after.pair())

        assert code_of(server.address, after.pem) is OK
        assert code_of(server.address, before.pem) is UNAVAILABLE
        assert live(old) is OK


@pytest.mark.parametrize("damage", ["mismatch", "half", "missing"])
def test_a_pair_that_cannot_be_used_leaves_the_old_one_and_is_logged_once(
    models: Path, secret: Secret, authority: Authority, damage: str
) -> None:
    key, chain = authority.pair()
    with LocalServer(models, *secret.flags) as server:
        if damage == "missing":
            secret.key.unlink()
        else:
            secret.put((authority.pair()[0], chain) if damage == "mismatch" else (key[: len(key) // 2], chain))
        for _ in range(5):
            assert code_of(server.address, authority.pem) is OK
        server.stop()
    assert sum("stays in use" in line for line in server.log) == 1


def test_a_connection_grows_old_without_a_call_lost(models: Path) -> None:
    """It lives for a second: calls go over to new ones, and a stream stays on its own for as long as it takes."""
    x = [tensor("x", sequence(np.random.default_rng(0), 1, 3))]
    answers: SimpleQueue[str] = SimpleQueue()
    states: list[grpc.ChannelConnectivity] = []
    with (
        LocalServer(models, "--max-connection-age-seconds", "1") as server,
        triton.InferenceServerClient(server.address) as streaming,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        streaming.start_stream(lambda result, error: answers.put(str(error or (result and "ok"))))
        streaming.async_stream_infer("lstm", x)
        assert answers.get(timeout=SECONDS) == "ok"

        channel.subscribe(states.append)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        codes = []
        while states.count(grpc.ChannelConnectivity.READY) < 3:
            codes.append(live(stub))

        streaming.async_stream_infer("lstm", x)
        assert answers.get(timeout=SECONDS) == "ok"
        assert set(codes) == {OK}


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--tls-certificate", "server.pem"], "belong together"),
        (["--tls-key", "server.key"], "belong together"),
        (["--tls-client-ca", "server.pem"], "needs --tls-certificate"),
        (["--tls-certificate", "server.pem", "--tls-key", "none"], "none: cannot be read"),
        (["--tls-certificate", "none", "--tls-key", "server.key"], "none: cannot be read"),
        (["--tls-certificate", "server.pem", "--tls-key", "other.key"], "no certificate with its own"),
        (["--tls-certificate", "server.pem", "--tls-key", "locked.key"], "unencrypted"),
        (["--tls-certificate", "text", "--tls-key", "server.key"], "PEM"),
        (["--tls-certificate", "server.pem", "--tls-key", "text"], "PEM"),
        (
            ["--tls-certificate", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "text"],
            "no certificates of",
        ),
        (["--tls-certificate", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "none"], "cannot be read"),
    ],
)
def test_files_that_cannot_be_used_end_the_start(
    models: Path, authority: Authority, tmp_path: Path, flags: list[str], text: str
) -> None:
    key, chain = authority.pair()
    locked = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    files = {
        "server.key": key,
        "server.pem": chain,
        "other.key": authority.pair()[0],
        "text": b"x",
        "locked.key": locked,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    ended = subprocess.run(
        [LSTM_SERVE, "--model-repository", models, "--grpc-port", "0", "--metrics-port", "0", *flags],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode in {1, 2}
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr
