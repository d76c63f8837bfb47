"""The composition root: the only place where the parts meet. Owns the order of start and of drain."""

import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

from prometheus_client import disable_created_metrics, start_http_server

from serving import __version__
from serving.batching import Batcher, CostModel, EqualLengths, Fifo, Stepwise, WholeSequence
from serving.batching import Policy as BatchingPolicy
from serving.clock import Clock, SystemClock
from serving.config import ServerConfig
from serving.engine.choice import EngineChoice
from serving.engine.cpu_budget import read_cpu_budget
from serving.engine.priority import compute_in_the_background
from serving.engine.runtime import load_onnxruntime
from serving.engine.turns import Turns
from serving.errors import TracingUnavailable
from serving.manifest import Manifest
from serving.metrics import ServerMetrics
from serving.policy import Policy
from serving.repository import load_repository
from serving.runner import Runner
from serving.wire.inference import Inference
from serving.wire.server import GrpcServer
from serving.wire.service import ControlService
from serving.wire.slots import Slots

if TYPE_CHECKING:
    from serving.tracing import OpenTelemetry

log = logging.getLogger(__name__)
MIB = 2**20
WARM_UP_STEPS = 64
WARM_UP_ROWS = 16
EXIT_FAULT = 70
"""BSD sysexits EX_SOFTWARE: a thread of ours died of a bug; the supervisor should start a fresh process."""


def run(config: ServerConfig) -> None:
    """Load, warm up, serve until SIGTERM or SIGINT, drain.

    Raises:
        ArtifactError: nothing in the repository can be served.
        EngineUnavailable: no onnxruntime, or not the device or engine asked for.
        FrontUnavailable: the installed grpcio is not one that the server can be built on.
        TracingUnavailable: traces are asked for, and OpenTelemetry is not installed.
        OSError: a port is taken.
    """
    threading.excepthook = _die
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series of every counter
    budget = read_cpu_budget()
    threads = config.threads or budget.threads
    log.info("lstm-serve %s, onnxruntime %s", __version__, load_onnxruntime().__version__, extra={"event": "started"})
    log.info(
        "CPU budget: %s; %d threads per engine call, spinning off",
        budget, threads, extra={"event": "cpu_budget", "threads": threads},
    )  # fmt: skip
    clock = SystemClock()
    tracer = _open_tracer(config, clock)
    metrics = ServerMetrics(cpu_threads=threads)
    loader = _Loader(EngineChoice(config.engine, config.device), threads, clock, metrics)
    with ThreadPoolExecutor(1, initializer=compute_in_the_background) as background:  # whose threads engines inherit
        repository = background.submit(load_repository, config.model_repository, loader.load).result()
    slots = Slots(config.max_inflight_requests, what="requests are in flight", setting="--max-inflight-requests")
    stream_slots = Slots(config.max_streams, what="streams are open", setting="--max-streams")
    inference = Inference(
        repository=repository,
        metrics=metrics,
        clock=clock,
        slots=slots,
        tracer=tracer,
        log_requests=config.log_requests,
    )
    server = GrpcServer(
        inference,
        ControlService(repository),
        address=f"{config.host}:{config.grpc_port}",
        stream_slots=stream_slots,
        max_message_bytes=config.max_message_mib * MIB,
    )
    metrics_server = _serve_metrics(config, metrics)
    for runner in loader.runners:
        runner.start()
    stop = _StopSignal()
    server.start()
    metrics.ready.set(1)
    log.info(
        "ready: gRPC on %s:%d, metrics on http://%s:%d/metrics",
        config.host, server.port, config.host, metrics_server.server_port,
        extra={"event": "ready", "grpc_port": server.port, "metrics_port": metrics_server.server_port},
    )  # fmt: skip
    stop.wait()
    log.info("draining: calls in flight have %g seconds", config.drain_timeout_seconds, extra={"event": "draining"})
    metrics.ready.set(0)
    _drain(server, loader.runners, grace_seconds=config.drain_timeout_seconds)
    metrics_server.shutdown()
    if tracer is not None:
        tracer.close()
    log.info("stopped", extra={"event": "stopped"})


class _Loader:
    """Makes a warmed-up runner of each version that the repository has verified, and remembers them."""

    def __init__(self, choice: EngineChoice, threads: int, clock: Clock, metrics: ServerMetrics) -> None:
        self._choice = choice
        self._threads = threads
        self._clock = clock
        self._metrics = metrics
        self._turns = Turns(threads)
        self.runners: list[Runner] = []

    def load(self, manifest: Manifest, policy: Policy, directory: Path) -> Runner:
        threads = max(1, self._threads // policy.instances)
        engine = self._choice.open(manifest, directory, threads=threads)
        cost = CostModel(padding_free=engine.padding_free)
        cost.warm_start(engine.warm_up(_warm_up_shapes(policy), self._clock))
        log.info(
            "loaded %s version %d: %s on %s by %s, %s",
            manifest.name, manifest.version, manifest.precision, engine.device, engine.name, cost,
            extra={"event": "model_loaded", "model": manifest.name, "version": str(manifest.version)},
        )  # fmt: skip
        runner = Runner(
            manifest=manifest,
            policy=policy,
            engine=engine,
            batcher=Batcher(
                _batching(manifest, policy, cost),
                cost,
                max_queue_rows=policy.max_queue_rows,
                instances=policy.instances,
            ),
            turns=self._turns,
            clock=self._clock,
            metrics=self._metrics.of_model(manifest.name, str(manifest.version)),
        )
        self.runners.append(runner)
        return runner


def _batching(manifest: Manifest, policy: Policy, cost: CostModel) -> BatchingPolicy:
    """Choose how rows share engine calls: by what the model can do, unless model.yaml asks for the plain way."""
    max_rows = policy.max_batch_rows
    if manifest.equal_lengths:
        return EqualLengths(cost, max_rows=max_rows)
    if policy.batching == "fifo":
        return Fifo(cost, max_rows=max_rows)
    if manifest.stepwise:
        tick_seconds = policy.tick_ms / 1000
        return Stepwise(cost, tick_seconds=tick_seconds, max_rows=max_rows, steps=policy.chunk_steps)
    return WholeSequence(cost, max_rows=max_rows)


def _warm_up_shapes(policy: Policy) -> list[tuple[int, int]]:
    """Return shapes that tell the three coefficients of the cost model apart, small ones first."""
    rows, steps = policy.max_batch_rows or WARM_UP_ROWS, min(WARM_UP_STEPS, policy.max_steps)
    shapes = itertools.product((1, min(WARM_UP_ROWS, rows)), (1, max(1, steps // 8), steps))
    return sorted(set(shapes), key=lambda shape: shape[0] * shape[1])


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


def _serve_metrics(config: ServerConfig, metrics: ServerMetrics) -> WSGIServer:
    try:
        server, _ = start_http_server(config.metrics_port, config.host, metrics.registry)
    except OSError as error:
        raise OSError(f"cannot listen on {config.host}:{config.metrics_port} for metrics: {error}") from error
    return server


def _drain(server: GrpcServer, runners: Sequence[Runner], *, grace_seconds: float) -> None:
    """Close the front first, then the runners: a call that got in is answered as long as the grace lasts."""
    server.stop(grace_seconds=grace_seconds)
    for runner in runners:
        runner.drain()
    for runner in runners:
        runner.join()


class _StopSignal:
    """SIGTERM or SIGINT, once; a second SIGINT (an impatient Ctrl-C) kills.

    The kernel may hand a signal to any thread, and Python runs handlers in the main thread only, when it next wakes. So
    the main thread waits on the wake-up descriptor, which is written in whichever thread the signal arrives.
    """

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        signal.set_wakeup_fd(self._write.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def wait(self) -> None:
        """Block the main thread until the signal."""
        self._read.recv(1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _die(failure: threading.ExceptHookArgs) -> None:
    """End the process when a thread dies of a bug: half a server would leave callers waiting for ever."""
    log.critical(
        "thread %s died; this is a bug",
        failure.thread.name if failure.thread else "?",
        exc_info=(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback),
        extra={"event": "thread_died"},
    )
    os._exit(EXIT_FAULT)
