"""What the transport costs: servers that answer every request with the same bytes and look at none.

`python -m loadtests.benchmarks.serving_floor KIND ANSWER_FILE CORE [MODEL_FILE ROWS STEPS FEATURES]` prints its port
and serves until killed. Kinds: `threads`, grpcio's server, and `completions`, which the front by grpcio is built on.
With a model, `threads` runs it for every call, as a server without a batcher would.
"""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from loadtests.benchmarks.serving_engine import engine_call
from serving.clock import SystemClock
from serving.wire.call import Call
from serving.wire.completions import Completions
from serving.wire.front import STREAM
from serving.wire.unary import UNARY
from serving.wire.unread import Unread

SERVICE = "inference.GRPCInferenceService"
THREADS = 272
"""More than any workload has requests in flight."""


def serve_with_threads(answer: bytes, work: Callable[[], object]) -> None:
    """Serve ModelInfer and ModelStreamInfer with grpcio's threaded server; each call does the work."""

    def infer(request: bytes, context: grpc.ServicerContext) -> bytes:
        del request, context
        work()
        return answer

    def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        del context
        for _ in requests:
            yield answer

    server = grpc.server(ThreadPoolExecutor(THREADS))
    handlers: dict[str, Any] = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(infer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_registered_method_handlers(SERVICE, handlers)
    _serve(server)


def serve_with_completions(answer: bytes) -> None:
    """Serve the same as `lstm-serve --wire grpcio` does, but for everything that it does."""

    def infer(call: Call) -> None:
        call.watch(lambda: None)
        call.receive(lambda _: call.finish(grpc.StatusCode.OK, content=answer))

    def stream(call: Call) -> None:
        def received(content: bytes | None) -> None:
            if content is None:
                call.finish(grpc.StatusCode.OK)
            else:
                call.send(answer, lambda: None)
                call.receive(received)

        call.watch(lambda: None)
        call.receive(received)

    server = grpc.server(ThreadPoolExecutor(1))
    completions = Completions(server, {UNARY: infer, STREAM: stream}, SystemClock(), Unread(2**30))
    _serve(server, completions.start)


def main(kind: str, answer_file: str, core: str, *model: str) -> None:
    """Serve on one core."""
    os.sched_setaffinity(0, {int(core)})
    answer = Path(answer_file).read_bytes()
    if kind == "threads":
        serve_with_threads(answer, _work(*model) if model else lambda: None)
    else:
        serve_with_completions(answer)


def _work(file: str, rows: str, steps: str, features: str) -> Callable[[], object]:
    return engine_call(Path(file), features=int(features), rows=int(rows), steps=int(steps))


def _serve(server: grpc.Server, started: Callable[[], None] = lambda: None) -> None:
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    started()
    _tell(port)
    server.wait_for_termination()


def _tell(port: int) -> None:
    print(port, flush=True)  # noqa: T201  read by the benchmark


if __name__ == "__main__":
    main(*sys.argv[1:])
