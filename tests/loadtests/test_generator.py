"""The load generator against grpcio's server: it sends what it was given, and writes down what came of it."""

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from loadtests.generator.program import FLAGS, LIBRARIES, RECORD, SOURCE, build, read_result
from tests.loadtests.generating import (
    ANSWER,
    DEADLINE_EXCEEDED,
    ERROR_ANSWER,
    LARGE,
    OK,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    UNKNOWN,
    Generator,
    turns,
)

SERVICE = "inference.GRPCInferenceService"
REFUSED = b"refused"
FAILING = b"failing"


@dataclass
class Server:
    """A gRPC server on bytes, and what it was sent."""

    methods: tuple[str, ...] = ("ModelInfer", "ModelStreamInfer")
    received: list[bytes] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    streams: list[list[bytes]] = field(default_factory=list)
    connections: set[str] = field(default_factory=set)
    blocked: threading.Event | None = None

    def infer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.received.append(request)
        self.deadlines.append(context.time_remaining())
        self.connections.add(context.peer())
        if self.blocked:
            self.blocked.wait()
        if request == REFUSED:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return ANSWER

    def stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        received: list[bytes] = []
        self.streams.append(received)
        for request in requests:
            received.append(request)
            if request == REFUSED:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            yield ERROR_ANSWER if request == FAILING else ANSWER

    @contextmanager
    def serving(self) -> Iterator[int]:
        handlers: dict[str, Any] = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self.infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.stream),
        }
        kept = {name: handler for name, handler in handlers.items() if name in self.methods}
        with ThreadPoolExecutor(8) as threads:
            server = grpc.server(threads)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, kept),))
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            yield port
            server.stop(None).wait()


def test_the_program_compiles_without_a_warning(program: Path) -> None:
    command = ["cc", *FLAGS, "-Werror", "-o", str(program.with_name("strict")), str(SOURCE), *LIBRARIES]

    assert subprocess.run(command, capture_output=True, check=False).stderr == b""


@pytest.mark.parametrize("compiler", ["no-such-compiler", "cc -nostdinc"])
def test_what_is_missing_for_the_build_is_named(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    del program  # it is skipped where there is no compiler
    monkeypatch.setenv("CC", compiler)

    with pytest.raises(RuntimeError, match="apt-get install gcc libnghttp2-dev"):
        build(tmp_path)


def test_a_result_of_half_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(bytes(RECORD.itemsize + 1))

    with pytest.raises(ValueError, match="expected records of 32 bytes"):
        read_result(tmp_path / "result")


def test_a_caller_sends_the_messages_in_turn_and_waits_for_each_answer(generator: Generator) -> None:
    server, messages = Server(), [b"one", b"", LARGE]
    with server.serving() as port:
        records = generator.closed_loop(port, messages, 1)

    assert len(records) > len(messages)
    assert set(records["status"]) == {OK}
    assert records["index"].tolist() == turns(records, 3)
    assert server.received == [messages[index] for index in records["index"]]
    assert (records["meant"] >= 0).all()
    assert (records["meant"] < 0.2).all()
    assert (records["ended"] >= records["meant"]).all()
    assert (records["meant"][1:] >= records["ended"][:-1]).all()


def test_many_callers_share_connections_and_turns(generator: Generator) -> None:
    server, messages = Server(), [b"one", b"two", LARGE, b"four"]
    with server.serving() as port:
        records = generator.closed_loop(port, messages, 19, "--connections", "3")

    assert set(records["status"]) == {OK}
    assert sorted(records["index"]) == sorted(turns(records, 4))
    assert Counter(server.received) == Counter(messages[index] for index in records["index"])
    assert len(server.connections) == 3
    edges = [(start, 1) for start in records["meant"]] + [(end, -1) for end in records["ended"]]
    out = np.cumsum([step for _, step in sorted(edges)])
    assert out.max() == 19, "each caller has one request out"


def test_a_low_limit_of_descriptors_is_raised_for_many_connections(generator: Generator) -> None:
    script = generator.folder / "limited"
    script.write_text(f'#!/bin/sh\nulimit -S -n 16\nexec {generator.program} "$@"\n')
    script.chmod(0o755)
    server = Server()
    with server.serving() as port:
        records = Generator(script, generator.folder).closed_loop(port, [b"one"], 40, "--connections", "40")

    assert set(records["status"]) == {OK}
    assert len(server.connections) == 40


def test_the_status_of_a_refusal_is_written_down(generator: Generator) -> None:
    with Server().serving() as port:
        records = generator.closed_loop(port, [b"welcome", REFUSED], 4)

    assert set(records["status"][records["index"] == 0]) == {OK}
    assert set(records["status"][records["index"] == 1]) == {RESOURCE_EXHAUSTED}


def test_a_method_that_the_server_lacks_is_unimplemented(generator: Generator) -> None:
    with Server(methods=("ModelStreamInfer",)).serving() as port:
        records = generator.closed_loop(port, [b"one", LARGE], 2)

    assert set(records["status"]) == {UNIMPLEMENTED}


def test_the_open_loop_sends_every_arrival_and_counts_from_it(generator: Generator) -> None:
    server, messages = Server(), [b"one", LARGE, b"three"]
    arrivals = np.sort(np.random.default_rng(0).uniform(0, 0.2, 50))
    with server.serving() as port:
        records = generator.open_loop(port, messages, arrivals)

    in_turn = records[np.argsort(records["meant"])]
    assert in_turn["meant"].tolist() == arrivals.tolist()
    assert in_turn["index"].tolist() == turns(records, 3)
    assert set(records["status"]) == {OK}
    assert (records["sent"] >= records["meant"]).all(), "nothing goes out before its time"
    assert (records["ended"] > records["sent"]).all()
    assert len(server.connections) == 4
    assert Counter(server.received) == Counter(messages[index] for index in records["index"])


def test_what_is_never_answered_has_missed_its_deadline(generator: Generator) -> None:
    server = Server(blocked=threading.Event())
    assert server.blocked
    with server.serving() as port:
        records = generator.open_loop(port, [b"one"], np.array([0.0, 0.01]), "--patience", "0.1")
        server.blocked.set()

    assert records["status"].tolist() == [DEADLINE_EXCEEDED] * 2
    assert (records["ended"] >= 0.1).all()


def test_each_stream_is_one_call_that_keeps_its_order(generator: Generator) -> None:
    server, messages = Server(), [b"one", LARGE, FAILING]
    with server.serving() as port:
        records = generator.closed_loop(port, messages, 1, "--stream")

    assert len(records) > len(messages)
    assert records["index"].tolist() == turns(records, 3)
    assert server.streams == [[messages[index] for index in records["index"]]]
    assert records["status"].tolist() == [UNKNOWN if index == 2 else OK for index in records["index"]]


def test_each_caller_has_a_stream_of_its_own(generator: Generator) -> None:
    server, messages = Server(), [b"one", b"two", LARGE, b"four"]
    with server.serving() as port:
        records = generator.closed_loop(port, messages, 6, "--stream")

    assert len(server.streams) == 6
    assert all(server.streams)
    assert set(records["status"]) == {OK}
    assert sorted(records["index"]) == sorted(turns(records, 4))
    assert Counter(message for stream in server.streams for message in stream) == Counter(
        messages[index] for index in records["index"]
    )


def test_a_stream_that_the_server_ends_leaves_the_status_with_the_request_that_was_out(generator: Generator) -> None:
    server = Server()
    with server.serving() as port:
        records = generator.closed_loop(port, [b"one", REFUSED], 1, "--stream", "--seconds", "60")

    assert records["status"].tolist() == [OK, RESOURCE_EXHAUSTED]
    assert server.streams == [[b"one", REFUSED]]


def test_calls_have_the_deadline_that_was_asked_for(generator: Generator) -> None:
    timed, endless = Server(), Server()
    with timed.serving() as port:
        generator.closed_loop(port, [b"one"], 2, "--timeout-us", "60000000")
    with endless.serving() as port:
        generator.closed_loop(port, [b"one"], 2)

    assert 0 < min(timed.deadlines) <= max(timed.deadlines) <= 60
    assert min(endless.deadlines) > 1e9, "what grpcio says for none"


def test_a_call_whose_deadline_passes_at_the_server_is_over(generator: Generator) -> None:
    server = Server(blocked=threading.Event())
    with server.serving() as port:
        records = generator.open_loop(port, [b"one"], np.zeros(3), "--timeout-us", "50000")
        server.blocked.set()

    assert set(records["status"]) == {DEADLINE_EXCEEDED}
