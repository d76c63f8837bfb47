"""The gRPC server on grpcio: which method is whose, and the order of start and stop."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from serving.wire.access import Access
from serving.wire.completions import Completions
from serving.wire.front import Front
from serving.wire.inference import Inference
from serving.wire.others import METHODS, SERVICE_NAME, Others
from serving.wire.service import ControlService
from serving.wire.slots import Slots
from serving.wire.transport import LAST_BYTES_SECONDS, LAST_CALLS_SECONDS, Option
from serving.wire.unoffered import Unoffered, UnofferedHandler
from serving.wire.unread import Unread

ACCEPTING_OTHERS = 32
"""Calls that may come at once of each method but those that infer. They are read on a thread of their own, so that
probes are answered also when more requests come than the front can take."""
UNKNOWN_CALLS = 512
"""At a time, of methods that there are not."""


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
        self._slots = inference.slots
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="grpc"),  # for none of the methods below
            options=options,
            maximum_concurrent_rpcs=UNKNOWN_CALLS,
        )
        self._others = Others(service, access, max_message_bytes=inference.max_message_bytes, reflects=reflects)
        self._server.add_generic_rpc_handlers([UnofferedHandler(Unoffered(SERVICE_NAME, METHODS, access))])
        self._front = Front(self._server, inference, access, stream_slots=stream_slots, unread=unread)
        self._calls = Completions(
            self._server, self._others.begin, inference.clock, unread, name="grpc-control", accepting=ACCEPTING_OTHERS
        )
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
        self._calls.start()

    def set_ready(self, *, ready: bool) -> None:
        """Say to health checks whether calls should come here; those that come are served all the same."""
        self._others.set_ready(ready=ready)

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
        self._calls.close()
        self._others.health.close()
        self._server.stop(LAST_BYTES_SECONDS).wait()
        self._front.join()
        self._calls.join()
        self._others.control.stop()
