"""The gRPC server: inference and health watches on the front, reflection and the rest on grpcio's threads."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from serving._proto import open_inference_pb2 as oip
from serving.wire import health
from serving.wire.access import Access
from serving.wire.front import SERVICE_NAME, Front
from serving.wire.inference import Inference
from serving.wire.inflation import Inflating
from serving.wire.parsing import handlers
from serving.wire.reflection import GuardedReflection
from serving.wire.service import ControlService
from serving.wire.slots import Slots
from serving.wire.transport import Option
from serving.wire.unoffered import Unoffered
from serving.wire.unread import Unread

METHODS = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
CONTROL_THREADS = 16
"""For metadata, health checks and reflection; inference calls need none."""
CONTROL_CALLS = 512
"""Of those, at a time; they would otherwise queue without a bound."""
HEALTH_WATCHES = 4096
"""At a time, of all clients; they need no threads. A client that balances its load has one for each connection."""
LAST_CALLS_SECONDS = 0.2
"""For calls that are on their way when a server stops that has nothing to do: they are still refused in order."""
LAST_BYTES_SECONDS = 1.0
"""For what has been answered but not yet sent, and for streams to end in order."""


class GrpcServer:
    """Binds at construction, serves from `start` to `stop`."""

    def __init__(  # noqa: PLR0913  the parts it brings together
        self,
        inference: Inference,
        service: ControlService,
        access: Access,
        *,
        address: str,
        credentials: grpc.ServerCredentials | None,
        stream_slots: Slots,
        unread: Unread,
        options: Sequence[Option],
        reflects: bool,
    ) -> None:
        """Bind the port.

        Args:
            inference: answers requests.
            service: answers the other calls.
            access: says who may call.
            address: `host:port`; port 0 takes a free one.
            credentials: for TLS; None opens a port that is not encrypted.
            stream_slots: each open stream takes one.
            unread: counts the answers that clients have not taken.
            options: of connections.
            reflects: whether the server tells what its services and messages are.

        Raises:
            OSError: the address cannot be bound.
            FrontUnavailable: the installed grpcio is not one that the front can be built on.
        """
        self._service = service
        self._slots = inference.slots
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=CONTROL_THREADS, thread_name_prefix="grpc"),
            interceptors=[*([GuardedReflection(access)] if reflects else []), Inflating(inference.max_message_bytes)],
            options=options,
            maximum_concurrent_rpcs=CONTROL_CALLS,
        )
        self._health = health.Health(max_watches=HEALTH_WATCHES)
        self._front = Front(
            self._server,
            inference,
            access,
            stream_slots=stream_slots,
            unread=unread,
            others={health.WATCH: self._health.begin_watch},
        )
        control = [METHODS[name] for name in METHODS if hasattr(service, name)]
        self._server.add_registered_method_handlers(SERVICE_NAME, handlers(service, control, access))
        self._server.add_registered_method_handlers(
            health.SERVICE.full_name, handlers(self._health, [health.CHECK], access)
        )
        self._server.add_generic_rpc_handlers([Unoffered(SERVICE_NAME, METHODS, access)])
        if reflects:
            reflection.enable_server_reflection(
                (SERVICE_NAME, health.SERVICE.full_name, reflection.SERVICE_NAME), self._server
            )
        self.set_ready(ready=False)
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error

    def start(self) -> None:
        """Take calls; health checks are told what `set_ready` says."""
        self._server.start()
        self._front.start()

    def set_ready(self, *, ready: bool) -> None:
        """Say to health checks whether calls should come here; those that come are served all the same."""
        self._service.ready = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in (health.OVERALL, SERVICE_NAME):
            self._health.set(name, status)

    def drain(self) -> None:
        """Say not ready, and refuse new requests; what is under way is still answered."""
        self.set_ready(ready=False)
        self._front.drain()

    def stop(self, *, grace_seconds: float) -> None:
        """Drain, let inference calls finish for at most the grace, and close.

        Streams that are meant to last (health watches) do not use up the grace. gRPC core is stopped last: it cancels
        calls that come while it stops, and a client that is told CANCELLED does not try again elsewhere, as with
        UNAVAILABLE.
        """
        self.drain()
        self._slots.wait_empty(seconds=grace_seconds)
        threading.Event().wait(LAST_CALLS_SECONDS)
        self._front.close()
        self._health.close()
        self._server.stop(LAST_BYTES_SECONDS).wait()
        self._front.join()
