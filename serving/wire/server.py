"""The gRPC server: which method is whose, and the order of start and stop."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2

from serving._proto import open_inference_pb2 as oip
from serving.wire import health, reflection
from serving.wire.access import Access
from serving.wire.completions import Completions
from serving.wire.control import Control, path_of
from serving.wire.front import SERVICE_NAME, Front
from serving.wire.inference import Inference
from serving.wire.reflection import Reflection
from serving.wire.service import ControlService
from serving.wire.slots import Slots
from serving.wire.transport import Option
from serving.wire.unoffered import Unoffered
from serving.wire.unread import Unread

METHODS = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
ACCEPTING_OTHERS = 32
"""Calls that may come at once of each method but those that infer. They are read on a thread of their own, so that
probes are answered also when more requests come than the front can take."""
UNKNOWN_CALLS = 512
"""At a time, of methods that there are not."""
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
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="grpc"),  # for none of the methods below
            options=options,
            maximum_concurrent_rpcs=UNKNOWN_CALLS,
        )
        self._health = health.Health(max_watches=HEALTH_WATCHES, max_message_bytes=inference.max_message_bytes)
        self._control = Control(access, max_message_bytes=inference.max_message_bytes)
        others = {
            health.WATCH: self._health.begin_watch,
            path_of(health.CHECK): self._control.unary(health.CHECK, self._health.Check),
        }
        for name, method in METHODS.items():
            if hasattr(service, name):
                others[path_of(method)] = self._control.unary(method, getattr(service, name))
        if reflects:
            services = (SERVICE_NAME, health.SERVICE.full_name, reflection.SERVICE.full_name)
            others[path_of(reflection.INFO)] = self._control.stream(reflection.INFO, Reflection(services).answer)
        self._server.add_generic_rpc_handlers([Unoffered(SERVICE_NAME, METHODS, access)])
        self._front = Front(self._server, inference, access, stream_slots=stream_slots, unread=unread)
        self._others = Completions(
            self._server, others, inference.clock, unread, name="grpc-control", accepting=ACCEPTING_OTHERS
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
        self._others.start()

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
        self._others.close()
        self._health.close()
        self._server.stop(LAST_BYTES_SECONDS).wait()
        self._front.join()
        self._others.join()
        self._control.stop()
