"""The RPCs that a look makes, and what is said when one fails."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import grpc

from serving._proto import open_inference_pb2 as oip
from serving._proto import open_inference_pb2_grpc as oip_grpc
from serving.status import diagnosis
from serving.status.errors import CannotLook
from serving.status.figures import OK, REQUESTS, Sample
from serving.status.target import Target

SECONDS = 5.0
"""That a call may take."""
NANOSECONDS = 1e9
Answer = TypeVar("Answer")


class Listed(NamedTuple):
    """A version in the server's repository, in the words of its index."""

    model: str
    version: str
    state: str
    reason: str


class Server(NamedTuple):
    """What a server says of itself."""

    name: str
    version: str
    ready: bool


class Denied(Exception):  # noqa: N818  named for what came
    """The server knows the caller, and does not let it call this."""


class Calls:
    """A connection to a server; context manager."""

    def __init__(self, target: Target) -> None:
        """Prepare it; it is opened by the first call."""
        self._target = target
        options: list[tuple[str, int | str]] = [
            ("grpc.enable_http_proxy", 0),  # the metrics are read, and faults found, without one as well
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 1000),  # a server that starts again is to be seen
        ]
        if target.tls is None:
            self._channel = grpc.insecure_channel(target.address, options)
        else:
            if target.tls.name is not None:
                options.append(("grpc.ssl_target_name_override", target.tls.name))
            credentials = grpc.ssl_channel_credentials(
                *(_content(path) for path in (target.tls.authority, target.tls.key, target.tls.certificate))
            )
            self._channel = grpc.secure_channel(target.address, credentials, options)
        self._stub = oip_grpc.GRPCInferenceServiceStub(self._channel)
        self._metadata = () if target.token is None else (("authorization", f"Bearer {target.token}"),)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def server(self) -> Server:
        """Ask who it is and whether it takes requests.

        Raises:
            CannotLook: it cannot be reached, or does not know the token.
        """
        ready = self._call(self._stub.ServerReady, oip.ServerReadyRequest()).ready
        try:
            told = self._call(self._stub.ServerMetadata, oip.ServerMetadataRequest())
        except Denied as denied:
            raise CannotLook(f"{self._target.address} does not let this caller ask who it is: {denied}") from denied
        return Server(printable(told.name), printable(told.version), ready)

    def index(self) -> list[Listed]:
        """Ask for every version that is or was to be served.

        Raises:
            CannotLook: the server cannot be reached, or does not know the token.
            Denied: the token does not carry this right.
        """
        told = self._call(self._stub.RepositoryIndex, oip.RepositoryIndexRequest())
        return [Listed(*map(printable, (each.name, each.version, each.state, each.reason))) for each in told.models]

    def statistics(self) -> list[Sample]:
        """Ask for what was counted of each version, as samples of the metrics that say the same.

        Raises:
            CannotLook: the server cannot be reached, or does not know the token.
            Denied: the token does not carry this right.
        """
        told = self._call(self._stub.ModelStatistics, oip.ModelStatisticsRequest())
        return [sample for each in told.model_stats for sample in _samples(each)]

    def _call(self, method: Callable[..., Answer], request: Any) -> Answer:  # noqa: ANN401  any of the contract
        try:
            return method(request, timeout=SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            code, details = error.code(), printable(error.details() or "")
        where = self._target.address
        match code:
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
                raise CannotLook(diagnosis.why(self._target, details, seconds=SECONDS))
            case grpc.StatusCode.UNAUTHENTICATED:
                given = "asks for a token" if self._target.token is None else "does not take this token"
                raise CannotLook(
                    f"{where} {given} ({details}); put a token that the server's --tokens file knows into "
                    "LSTM_SERVE_TOKEN, or name a file that holds it with --token-file"
                )
            case grpc.StatusCode.PERMISSION_DENIED:
                raise Denied(details)
            case grpc.StatusCode.UNIMPLEMENTED:
                raise CannotLook(
                    f"{where} answers, but not by the Open Inference Protocol ({details}); is this the gRPC port of "
                    "lstm-serve?"
                )
        raise CannotLook(f"{where} failed: {code.name} ({details}); the server's log has more")


def printable(text: str) -> str:
    """Return what others wrote without what would steer a terminal, on one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _samples(told: oip.ModelStatistics) -> list[Sample]:
    stats = told.inference_stats
    computed_ns = stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns
    of_version = {"model": printable(told.name), "version": printable(told.version)}
    ok, failed = {**of_version, "outcome": OK}, {**of_version, "outcome": "error"}
    return [
        Sample(REQUESTS, ok, stats.success.count),
        Sample(REQUESTS, failed, stats.fail.count),
        Sample("lstm_request_seconds_count", ok, stats.success.count),
        Sample("lstm_request_seconds_sum", ok, stats.success.ns / NANOSECONDS),
        Sample("lstm_rows_total", of_version, told.inference_count),
        Sample("lstm_engine_run_seconds_count", of_version, told.execution_count),
        Sample("lstm_engine_run_seconds_sum", of_version, computed_ns / NANOSECONDS),
    ]


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
