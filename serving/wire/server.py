"""The grpcio front: one threaded server with inference, health and reflection."""

from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from serving.wire.parsing import Registrar
from serving.wire.service import InferenceService
from serving.wire.slots import Slots

SERVICE_NAME = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
CONTROL_THREADS = 16
"""Threads beyond those of inference, so that health and metadata answer while every inference slot is taken."""
HEALTH_STREAMS = 16
"""Health Watch streams at a time; each holds a thread of its own pool."""
LAST_BYTES_SECONDS = 1.0
"""For what has been answered but not yet sent, and for streams to end in order."""


class GrpcServer:
    """Binds at construction, serves from `start` to `stop`."""

    def __init__(
        self,
        service: InferenceService,
        slots: Slots,
        *,
        address: str,
        threads: int,
        max_message_bytes: int,
    ) -> None:
        """Bind the port.

        Args:
            service: answers the calls.
            slots: those that its inference requests take.
            address: `host:port`; port 0 takes a free one.
            threads: that inference calls and streams may hold at a time.
            max_message_bytes: largest message in or out.

        Raises:
            OSError: the address cannot be bound.
        """
        self._service = service
        self._slots = slots
        workers = threads + CONTROL_THREADS
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=workers, thread_name_prefix="grpc"),
            options=[
                ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent half of the traffic
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
            ],
        )
        self._health = health.HealthServicer(
            experimental_non_blocking=True,
            experimental_thread_pool=ThreadPoolExecutor(max_workers=HEALTH_STREAMS, thread_name_prefix="health"),
        )
        add_GRPCInferenceServiceServicer_to_server(service, Registrar(self._server))  # type: ignore[arg-type]  # a part of it
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._set_ready(ready=False)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error

    def start(self) -> None:
        """Serve, and say so to health checks."""
        self._server.start()
        self._set_ready(ready=True)

    def stop(self, *, grace_seconds: float) -> None:
        """Say not ready, refuse new calls, let inference calls finish for at most the grace, and close.

        Streams that are meant to last (health watches) do not use up the grace.
        """
        self._set_ready(ready=False)
        self._service.drain()
        self._server.stop(grace_seconds)
        self._slots.wait_empty(seconds=grace_seconds)
        self._server.stop(LAST_BYTES_SECONDS).wait()

    def _set_ready(self, *, ready: bool) -> None:
        self._service.ready = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in (health.OVERALL_HEALTH, SERVICE_NAME):
            self._health.set(name, status)
