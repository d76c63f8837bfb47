"""The composition root: the only place where the parts meet. Owns the order of start and of drain."""

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, TypedDict

from prometheus_client import disable_created_metrics, make_wsgi_app

from serving import __version__
from serving.allocator import tune_allocator
from serving.clock import Clock, SystemClock
from serving.config import ServerConfig
from serving.descriptors import make_room
from serving.engine.choice import EngineChoice
from serving.engine.cpu_budget import read_cpu_budget
from serving.engine.runtime import load_onnxruntime
from serving.errors import ConfigError, TracingUnavailable
from serving.loader import Loader
from serving.logs import lost_lines
from serving.metrics import SECONDS_BUCKETS, ServerMetrics
from serving.probes import ProbeServer
from serving.readiness import Readiness
from serving.repository import Repository
from serving.repository.control import ModelControl
from serving.repository.loading import Loading
from serving.stop_signal import StopSignal, end_at_sigterm
from serving.wire.access import Access, Tokens
from serving.wire.inference import Inference
from serving.wire.native import library as native
from serving.wire.native.server import NativeServer
from serving.wire.native.slots import NativeSlots
from serving.wire.server import GrpcServer
from serving.wire.service import ControlService
from serving.wire.slots import Slots
from serving.wire.tls import Certificates
from serving.wire.transport import Option, options
from serving.wire.unread import Unread

if TYPE_CHECKING:
    from serving.tracing import OpenTelemetry

log = logging.getLogger(__name__)
MIB = 2**20
EXIT_FAULT = 70
"""BSD sysexits EX_SOFTWARE: a thread of ours died of a bug; the supervisor should start a fresh process."""


def run(config: ServerConfig) -> None:
    """Load, warm up, serve until SIGTERM or SIGINT, drain.

    Raises:
        ArtifactError: nothing in the repository can be served.
        EngineUnavailable: no onnxruntime, or not the device or engine asked for.
        ConfigError: more threads than CPU budget, or a file that a setting names cannot be used.
        FrontUnavailable: the installed grpcio is not one that the server can be built on.
        TracingUnavailable: traces are asked for, and OpenTelemetry is not installed.
        OSError: a port is taken.
    """
    threading.excepthook = _die
    tune_allocator()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series of every counter
    budget = read_cpu_budget()
    threads = config.threads or budget.threads
    if threads > budget.threads:
        raise ConfigError(
            f"--threads is {threads}, and this process may use {budget}: more would wait for each other's cores; "
            "leave it out, or allow the process more CPU"
        )
    onnxruntime_version = load_onnxruntime().__version__
    log.info("lstm-serve %s, onnxruntime %s", __version__, onnxruntime_version, extra={"event": "started"})
    log.info(
        "CPU budget: %s; %d threads per engine call, spinning off",
        budget, threads, extra={"event": "cpu_budget", "threads": threads},
    )  # fmt: skip
    clock = SystemClock()
    tracer = _open_tracer(config, clock)
    metrics = ServerMetrics(
        cpu_threads=threads,
        cpu_quota_cores=budget.quota,
        onnxruntime_version=onnxruntime_version,
        log_lines_lost=lost_lines,
    )
    repository = Repository()
    loader = Loader(EngineChoice(config.engine, config.device), threads, clock, metrics)
    control = ModelControl(
        repository,
        Loading(config.model_repository, repository, loader.load, clock=clock, metrics=metrics),
        mode=config.model_control,
    )
    readiness = Readiness(repository, metrics, without_models=config.model_control == "explicit")
    probes = ProbeServer(
        config.host, config.metrics_port, metrics=make_wsgi_app(metrics.registry), is_ready=lambda: readiness.ready
    )
    end_at_sigterm()
    try:
        control.start(config.load_model, poll_seconds=config.poll_seconds)
        service = ControlService(repository, control, metrics)
        shell = _Shell(config, repository, service, metrics, clock, tracer)
        server = shell.open()  # not before: an open port says that it serves
        stop = StopSignal()
        server.start()
        readiness.begin(server)
        log.info(
            "ready: gRPC on %s:%d, metrics on http://%s:%d/metrics",
            config.host, server.port, config.host, probes.port,
            extra={"event": "ready", "grpc_port": server.port, "metrics_port": probes.port},
        )  # fmt: skip
        signal_number = stop.wait()
        readiness.end()
        if signal_number == signal.SIGTERM and config.drain_delay_seconds:
            log.info(
                "leaving: not ready any more, serving on for %g seconds",
                config.drain_delay_seconds, extra={"event": "leaving"},
            )  # fmt: skip
            stop.wait(seconds=config.drain_delay_seconds)
        log.info("draining: calls in flight have %g seconds", config.drain_timeout_seconds, extra={"event": "draining"})
        server.stop(grace_seconds=config.drain_timeout_seconds)
    except SystemExit:
        log.info("told to stop before it was ready", extra={"event": "leaving"})
        raise
    finally:
        control.stop()
        probes.stop()
        if tracer is not None:
            tracer.close()
    log.info("stopped", extra={"event": "stopped"})


class _Shell:
    """Opens the server on the front that is asked for."""

    def __init__(  # noqa: PLR0913, PLR0917  the parts it brings together
        self,
        config: ServerConfig,
        repository: Repository,
        service: ControlService,
        metrics: ServerMetrics,
        clock: Clock,
        tracer: "OpenTelemetry | None",
    ) -> None:
        self._config = config
        self._repository = repository
        self._service = service
        self._metrics = metrics
        self._clock = clock
        self._tracer = tracer
        self._access = Access(None if config.tokens is None else Tokens(config.tokens, clock))
        self._stream_slots = Slots(config.max_streams, what="streams are open", setting="--max-streams")

    def open(self) -> GrpcServer | NativeServer:
        wire = self._config.wire
        if wire == "auto":
            wire = "native" if native.is_built() else "grpcio"
            if wire == "grpcio":
                log.info(
                    "the native front was not built, so requests come through grpcio, which takes several times the "
                    "CPU: apt-get install %s, and install lstm-serving again (make native)",
                    native.PACKAGES, extra={"event": "wire"},
                )  # fmt: skip
        return self._native() if wire == "native" else self._grpcio()

    def _grpcio(self) -> GrpcServer:
        config = self._config
        certificates = _certificates(config)
        return GrpcServer(
            self._inference(Slots(config.max_inflight_requests, **self._slots_rule())),
            self._service,
            self._access,
            address=f"{config.host}:{config.grpc_port}",
            credentials=None if certificates is None else certificates.credentials(),
            stream_slots=self._stream_slots,
            unread=Unread(config.max_unread_mib * MIB),
            options=self._options(make_room(config.max_connections)),
            reflects=config.reflection,
        )

    def _native(self) -> NativeServer:
        config = self._config
        slots = NativeSlots(config.max_inflight_requests, **self._slots_rule())
        room = make_room(config.max_connections, descriptors=native.DESCRIPTORS)
        server = NativeServer(
            self._inference(slots),
            self._service,
            self._access,
            repository=self._repository,
            slots=slots,
            host=config.host,
            port=config.grpc_port,
            certificates=_certificates(config),
            stream_slots=self._stream_slots,
            max_unread_bytes=config.max_unread_mib * MIB,
            max_connections=room,
            options=self._options(room),
            reflects=config.reflection,
            seconds_buckets=SECONDS_BUCKETS,
            sample_ratio=config.tracing_sample_ratio,
        )
        self._metrics.add(server)
        return server

    def _inference(self, slots: Slots) -> Inference:
        return Inference(
            repository=self._repository,
            metrics=self._metrics,
            clock=self._clock,
            slots=slots,
            tracer=self._tracer,
            log_requests=self._config.log_requests,
            max_message_bytes=self._config.max_message_mib * MIB,
        )

    def _slots_rule(self) -> "_SlotsRule":
        return {
            "what": "requests are in flight",
            "setting": "--max-inflight-requests",
            "per_client": self._config.max_inflight_per_client,
        }

    def _options(self, max_connections: int) -> list[Option]:
        return options(
            max_message_bytes=self._config.max_message_mib * MIB,
            max_connections=max_connections,
            max_connection_age_seconds=self._config.max_connection_age_seconds,
        )


class _SlotsRule(TypedDict):
    what: str
    setting: str
    per_client: int | None


def _certificates(config: ServerConfig) -> Certificates | None:
    if config.tls_certificate is None or config.tls_key is None:
        if config.tokens is not None:
            log.warning("--tokens without --tls-certificate: tokens can be read on the way, unless a proxy encrypts it")
        return None
    return Certificates(config.tls_certificate, config.tls_key, config.tls_client_ca)


def _open_tracer(config: ServerConfig, clock: Clock) -> "OpenTelemetry | None":
    endpoint = config.tracing_endpoint
    if endpoint is None:
        return None
    try:
        from serving.tracing import OpenTelemetry  # noqa: PLC0415  an extra, which most servers do without
    except ImportError as error:
        raise TracingUnavailable(
            f"--tracing-endpoint needs OpenTelemetry, which is not installed ({error}); "
            "install it with pip install 'lstm-serving[tracing]', or leave the flag out"
        ) from error
    url = f"{endpoint}v1/traces" if endpoint.path in {None, "/"} else str(endpoint)
    log.info(
        "traces go to %s:%s, %g of the requests that bring none of their own",
        endpoint.host, endpoint.port, config.tracing_sample_ratio, extra={"event": "tracing"},
    )  # fmt: skip
    return OpenTelemetry(url, sample_ratio=config.tracing_sample_ratio, clock=clock)


def _die(failure: threading.ExceptHookArgs) -> None:
    """End the process when a thread dies of a bug: half a server would leave callers waiting for ever."""
    log.critical(
        "thread %s died; this is a bug",
        failure.thread.name if failure.thread else "?",
        exc_info=(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback),
        extra={"event": "thread_died"},
    )
    logging.shutdown()  # writes what waits, which nothing else does when a process ends so
    os._exit(EXIT_FAULT)
