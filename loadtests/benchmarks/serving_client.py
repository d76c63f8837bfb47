"""A load generator in a process of its own: `python -m loadtests.benchmarks.serving_client JOB.json`.

Closed loop (so many callers, each sending its next request when answered) or open loop (given arrival times, whatever
the answers; latency counts from the time that was meant). Messages are bytes here, so that they cost little.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

UNARY = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
CONNECTIONS = 4
LENGTH_BYTES = 4
OK = 0
STREAM_ERROR = b"\x0a"
"""The first byte of a ModelStreamInferResponse that has an error message (field 1, length-delimited)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process is to do.

    Attributes:
        address: `host:port`.
        messages: file of requests, each after its length as 4 little-endian bytes.
        result: file to write: arrays `index`, `meant`, `ended` (seconds) and `code` of each request.
        core: that it may use.
        seconds: how long requests are sent.
        callers: of the closed loop; 0 for the open one.
        arrivals: seconds from the start, of the open loop.
        stream: over one ModelStreamInfer call per caller.
    """

    address: str
    messages: str
    result: str
    core: int
    seconds: float
    callers: int = 0
    arrivals: tuple[float, ...] = ()
    stream: bool = False

    def write(self, path: Path) -> None:
        """Write it for the process to read."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_messages(path: Path) -> list[bytes]:
    """Read length-prefixed messages."""
    content, messages, at = path.read_bytes(), [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + LENGTH_BYTES], "little")
        at += LENGTH_BYTES + size
        messages.append(content[at - size : at])
    return messages


class _Client:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.messages = read_messages(Path(job.messages))
        self.records: list[tuple[int, float, float, int]] = []
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channels = [grpc.aio.insecure_channel(job.address, options=options) for _ in range(CONNECTIONS)]
        self.start = 0.0

    async def run(self) -> None:
        await asyncio.gather(*(channel.channel_ready() for channel in self.channels))
        self.start = time.perf_counter()
        if self.job.callers:
            turns = iter(range(10**9))
            talk = self._stream if self.job.stream else self._call
            await asyncio.gather(*(talk(number, turns) for number in range(self.job.callers)))
        else:
            await self._open_loop()
        await asyncio.gather(*(channel.close() for channel in self.channels))

    def _unary(self, number: int) -> Callable[[bytes], Awaitable[bytes]]:
        channel: Any = self.channels[number % CONNECTIONS]  # without serializers it takes and gives bytes
        call: Callable[[bytes], Awaitable[bytes]] = channel.unary_unary(UNARY)
        return call

    async def _call(self, number: int, turns: Iterator[int]) -> None:
        call = self._unary(number)
        while time.perf_counter() - self.start < self.job.seconds:
            await self._one(call, next(turns), time.perf_counter())

    async def _one(self, call: Callable[[bytes], Awaitable[bytes]], turn: int, meant: float) -> None:
        index = turn % len(self.messages)
        try:
            await call(self.messages[index])
            code = OK
        except grpc.aio.AioRpcError as error:
            code = error.code().value[0]
        self.records.append((index, meant - self.start, time.perf_counter() - self.start, code))

    async def _stream(self, number: int, turns: Iterator[int]) -> None:
        channel: Any = self.channels[number % CONNECTIONS]
        call = channel.stream_stream(STREAM)()
        while time.perf_counter() - self.start < self.job.seconds:
            index, meant = next(turns) % len(self.messages), time.perf_counter()
            await call.write(self.messages[index])
            answer = await call.read()
            failed = answer is grpc.aio.EOF or answer.startswith(STREAM_ERROR)
            code = grpc.StatusCode.UNKNOWN.value[0] if failed else OK
            self.records.append((index, meant - self.start, time.perf_counter() - self.start, code))
            if answer is grpc.aio.EOF:
                return
        await call.done_writing()

    async def _open_loop(self) -> None:
        calls = [self._unary(number) for number in range(CONNECTIONS)]
        under_way = []
        for turn, arrival in enumerate(self.job.arrivals):
            meant = self.start + arrival
            await asyncio.sleep(meant - time.perf_counter())
            under_way.append(asyncio.create_task(self._one(calls[turn % CONNECTIONS], turn, meant)))
        await asyncio.gather(*under_way)


async def _work(job: Job) -> list[tuple[int, float, float, int]]:
    client = _Client(job)
    await client.run()
    return client.records


def main(path: str) -> None:
    """Do the job and write its result."""
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    job = Job(**{**given, "arrivals": tuple(given["arrivals"])})
    os.sched_setaffinity(0, {job.core})
    records = asyncio.run(_work(job))
    index, meant, ended, code = (np.array(column) for column in zip(*records, strict=True))
    np.savez(job.result, index=index, meant=meant, ended=ended, code=code)


if __name__ == "__main__":
    main(sys.argv[1])
