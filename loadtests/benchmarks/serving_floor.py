"""What grpcio's own servers cost: they answer every request with the same bytes and look at none.

`python -m loadtests.benchmarks.serving_floor threads|asyncio ANSWER_FILE CORE` prints its port and serves until killed.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

SERVICE = "inference.GRPCInferenceService"
THREADS = 272
"""As many as `lstm-serve` has for its default of 256 requests in flight."""


def serve_with_threads(answer: bytes) -> None:
    """Serve ModelInfer and ModelStreamInfer with grpcio's threaded server, as `lstm-serve` does."""

    def infer(request: bytes, context: grpc.ServicerContext) -> bytes:
        del request, context
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
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # noqa: T201  read by the benchmark
    server.wait_for_termination()


async def serve_with_asyncio(answer: bytes) -> None:
    """Serve the same with grpc.aio."""

    async def infer(request: bytes, context: object) -> bytes:
        del request, context
        return answer

    async def stream(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        del context
        async for _ in requests:
            yield answer

    server = grpc.aio.server()
    handlers: dict[str, Any] = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(infer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)  # noqa: T201  read by the benchmark
    await server.wait_for_termination()


def main(kind: str, answer_file: str, core: str) -> None:
    """Serve on one core."""
    os.sched_setaffinity(0, {int(core)})
    answer = Path(answer_file).read_bytes()
    if kind == "threads":
        serve_with_threads(answer)
    else:
        asyncio.run(serve_with_asyncio(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
