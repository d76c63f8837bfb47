"""How many connections a server takes."""

from contextlib import ExitStack
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.socket.test_overload import until
from training.local_server import LocalServer

SECONDS = 60


def live(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> grpc.StatusCode:
    code: grpc.StatusCode = stub.ServerLive.future(pb.ServerLiveRequest(), timeout=SECONDS).code()
    return code


def test_connections_beyond_the_limit_are_closed_until_others_leave(repository: Path) -> None:
    with LocalServer(repository, "--max-connections", "2") as server, ExitStack() as channels:

        def connect(stack: ExitStack) -> service_pb2_grpc.GRPCInferenceServiceStub:
            channel = grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
            return service_pb2_grpc.GRPCInferenceServiceStub(stack.enter_context(channel))

        first = connect(channels)
        assert live(first) is grpc.StatusCode.OK
        with ExitStack() as leaving:
            assert live(connect(leaving)) is grpc.StatusCode.OK
            with ExitStack() as refused:
                assert live(connect(refused)) is grpc.StatusCode.UNAVAILABLE

        def served() -> bool:
            with ExitStack() as trying:
                return live(connect(trying)) is grpc.StatusCode.OK

        until(served)
        assert live(first) is grpc.StatusCode.OK
