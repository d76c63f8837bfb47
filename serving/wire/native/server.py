"""The gRPC server on the library: the same start, drain and stop as the one on grpcio."""

import ctypes
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from serving._proto import seam_pb2 as seam
from serving.counted import Counted, Durations, Snapshot
from serving.errors import (
    Draining,
    EngineError,
    Overloaded,
    QueueFull,
    ServingError,
    Unauthenticated,
    reasons,
)
from serving.wire.access import Access
from serving.wire.health import STOPPING
from serving.wire.inference import Inference
from serving.wire.lag import behind
from serving.wire.native.calls import OTHERS, REQUESTS, Bridge, NativeCall
from serving.wire.native.inbox import NativeInbox
from serving.wire.native.library import MESSAGE_BYTES, Bytes, CertificateSource, load_library, taken
from serving.wire.native.slots import NativeSlots
from serving.wire.native.versions import version_of
from serving.wire.others import METHODS, SERVICE_NAME, SERVICES_WITH_HEALTH, Others, health_of
from serving.wire.service import ControlService
from serving.wire.slots import Slots
from serving.wire.status import STATUS_CODES, finish, refuse
from serving.wire.tls import Certificates
from serving.wire.transport import LAST_BYTES_SECONDS, LAST_CALLS_SECONDS, Option
from serving.wire.unary import Unary
from serving.wire.unoffered import Unoffered
from serving.wire.writers import Writers

if TYPE_CHECKING:
    from serving.repository import Model, Repository

OK = "ok"
TOKENS_SECONDS = 0.25
"""How often it is time to think of the tokens' file, which is looked at once in a second: no call here asks for it."""
MORE_REFERRALS = 1024
"""Requests that may wait for Python, beyond as many as may be in flight: most of them it refuses."""
NOT_FOUND = "Method not found!"
"""What grpcio says of methods of services that there are not."""


class NativeServer:
    """Binds at construction, serves from `start` to `stop`."""

    def __init__(  # noqa: PLR0913  the parts it brings together
        self,
        inference: Inference,
        service: ControlService,
        access: Access,
        *,
        repository: "Repository",
        slots: NativeSlots,
        host: str,
        port: int,
        certificates: Certificates | None,
        stream_slots: Slots,
        max_unread_bytes: int,
        max_connections: int,
        options: Sequence[Option],
        reflects: bool,
        seconds_buckets: Sequence[float],
        sample_ratio: float,
    ) -> None:
        """Bind the port.

        Args:
            inference: answers the requests that the library leaves to Python; uses the same `slots`.
            service: answers the other calls.
            access: says who may call.
            repository: of the models whose requests the library takes.
            slots: each request takes one.
            host: to listen on.
            port: 0 takes a free one.
            certificates: for TLS; None opens a port that is not encrypted.
            stream_slots: how many streams may be open, and what is told to others.
            max_unread_bytes: of answers that clients have not taken.
            max_connections: at a time; those beyond are closed.
            options: of connections.
            reflects: whether the server tells what its services and messages are.
            seconds_buckets: of the histograms of times.
            sample_ratio: of requests that are traced, if `inference` has a tracer.

        Raises:
            OSError: the address cannot be bound.
            FrontUnavailable: the library was not built, or does not load here.
        """
        self._library = load_library()
        self._inference = inference
        self._access = access
        self._repository = repository
        self._slots = slots
        self._others = Others(service, access, max_message_bytes=inference.max_message_bytes, reflects=reflects)
        self._unoffered = Unoffered(SERVICE_NAME, METHODS, access)
        self._outcomes = [OK, *sorted(reasons())]
        self._inboxes: dict[Model, NativeInbox | None] = {}
        self._writers = Writers()
        self._stopping = threading.Event()
        self._token_reader = threading.Thread(target=self._read_tokens, name="tokens")
        self._present = b""
        self._fetch = CertificateSource(self._certificates_of(certificates))
        settings = seam.Settings(
            channel_arguments=dict(options),
            host=host,
            port=port,
            max_connections=max_connections,
            max_message_bytes=inference.max_message_bytes,
            max_unread_bytes=max_unread_bytes,
            max_streams=stream_slots.count,
            max_watches=self._others.health.slots.count,
            max_referrals=slots.count + MORE_REFERRALS,
            draining=_refusal(Draining("the server is stopping; retry on another replica")),
            stream_draining=_refusal(Draining("the server is stopping; go on with the last state on another replica")),
            behind=_refusal(Overloaded(behind("{ms}"))),
            requests_full=_refusal(QueueFull(slots.full)),
            streams_full=_refusal(QueueFull(stream_slots.full)),
            referrals_full=_refusal(Overloaded("more calls come than this server can take; retry on another replica")),
            watches_full=_refusal(QueueFull(self._others.health.slots.full)),
            watch_draining=_refusal(Draining(STOPPING)),
            no_memory=_refusal(QueueFull("the server has no memory left for this request; retry on another replica")),
            fault=_refusal(EngineError("a fault of the server's front", fault="")),
            unoffered=seam.Refusal(code=12, message=NOT_FOUND),
            outcomes=self._outcomes,
            seconds_buckets=seconds_buckets,
            refers_all=inference.log_requests,
            traces=inference.tracer is not None,
            sample_ratio=sample_ratio,
            offered=list(self._others.begin),
            encrypted=certificates is not None,
            asks_client_certificate=certificates is not None and certificates.asks_clients,
            certificate_files=[] if certificates is None else list(map(str, certificates.files)),
        ).SerializeToString()
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        self._front = self._library.open(settings, len(settings), slots.handle, self._fetch, message, MESSAGE_BYTES)
        if not self._front:
            raise OSError(f"cannot listen on {host}:{port}: {message.value.decode(errors='replace')}")
        self.port: int = self._library.port(self._front)
        self._requests = Bridge(self._library, self._front, REQUESTS, self._begin_request, name="grpc-inference")
        self._calls = Bridge(self._library, self._front, OTHERS, self._begin_other, name="grpc-control")
        if access.tokens is not None:
            access.tokens.watch(self._give_tokens)
            self._give_tokens()
        self.set_ready(ready=False)
        repository.watch(self._look_up)

    def __del__(self) -> None:
        if getattr(self, "_front", None):
            self._library.close(self._front)

    def start(self) -> None:
        """Take calls; health checks are told what `set_ready` says."""
        self._writers.start()
        self._requests.start()
        self._calls.start()
        self._library.start(self._front)
        self._token_reader.start()

    def set_ready(self, *, ready: bool) -> None:
        """Say to health checks whether calls should come here; those that come are served all the same."""
        self._others.set_ready(ready=ready)
        for name in SERVICES_WITH_HEALTH:
            self._library.set_health(self._front, name.encode(), health_of(ready=ready))

    def drain(self) -> None:
        """Say not ready, and refuse new requests; what is under way is still answered."""
        self.set_ready(ready=False)
        self._library.drain(self._front)

    def stop(self, *, grace_seconds: float) -> None:
        """Drain, let inference calls finish for at most the grace, and close."""
        self.drain()
        self._slots.wait_empty(seconds=grace_seconds)
        threading.Event().wait(LAST_CALLS_SECONDS)
        self._others.health.close()
        self._library.end_watches(self._front)
        self._library.stop(self._front, LAST_BYTES_SECONDS)
        self._stopping.set()
        for bridge in (self._requests, self._calls):
            bridge.join()
        self._writers.stop()
        self._others.control.stop()
        if self._token_reader.ident is not None:
            self._token_reader.join()

    def snapshot(self) -> Snapshot:
        """Return what the library has counted of the requests that it serves."""
        counts = seam.Counts.FromString(taken(self._library.counts(self._front)))
        return Snapshot(
            versions={(each.model, each.version): self._counted(each) for each in counts.versions},
            not_served=dict(zip(self._outcomes, counts.not_served, strict=True)),
        )

    def _counted(self, counts: seam.Counts.OfVersion) -> Counted:
        return Counted(
            outcomes=dict(zip(self._outcomes, counts.outcomes, strict=True)),
            ok=_durations(counts.ok_seconds),
            error=_durations(counts.error_seconds),
            queue=_durations(counts.queue_seconds),
            last_ok_at=counts.last_ok_at,
        )

    def forget(self, model: str, version: str) -> None:
        """Drop the counts of a version that is not reported on any more."""
        self._library.forget(self._front, model.encode(), version.encode())

    def _look_up(self) -> None:
        """Have the library take requests for the versions that serve now, and no others."""
        models = self._repository.models
        known = self._inboxes
        self._inboxes = {model: known[model] if model in known else self._open(model) for model in models.values()}
        routes: dict[tuple[bytes, bytes], int] = {}
        for (name, version), model in models.items():  # oldest first: the newest is the default
            inbox = self._inboxes[model]
            for key in (str(version).encode(), b""):
                routes.pop((name.encode(), key), None)
                if inbox is not None:
                    routes[name.encode(), key] = inbox.handle
        names, versions = (
            ((ctypes.c_char_p * len(routes))(*each) for each in zip(*routes, strict=True))
            if routes
            else ((ctypes.c_char_p * 0)(), (ctypes.c_char_p * 0)())
        )
        handles = (ctypes.c_void_p * len(routes))(*routes.values())
        self._library.set_routes(self._front, len(routes), names, versions, handles)

    def _open(self, model: "Model") -> NativeInbox | None:
        """Have the library keep a version's requests; None if it has a type of tensors that it does not know."""
        described = version_of(model.manifest, model.policy).SerializeToString()
        handle = self._library.inbox_open(self._front, described, len(described))
        if not handle:
            return None
        inbox = NativeInbox(self._library, self._front, handle, max_rows=model.policy.max_request_rows)
        model.inbox.attach(inbox)
        return inbox

    def _begin_request(self, call: NativeCall) -> None:
        """Take a request that the library leaves to Python: it words what is wrong, or serves it."""
        try:
            call.client = self._access.client(call.metadata)
        except ServingError as error:
            self._inference.metrics.not_served(error.reason)
            refuse(call, error)
            return
        if call.unread:
            refuse(call, Unauthenticated("the token was not known here when the call began; call again"))
            return
        Unary(call, self._inference, self._writers, method=call.path).begin()

    def _begin_other(self, call: NativeCall) -> None:
        begin = self._others.begin.get(call.path)
        if begin is None:
            finish(call, self._unoffered.error(call.path, call.metadata))
        else:
            begin(call)

    def _give_tokens(self) -> None:
        assert self._access.tokens is not None, "it tells of its changes"
        clients = [
            seam.Tokens.Client(
                sha256=each.sha256,
                name=each.client.name,
                models=[] if each.client.may_use_all else sorted(each.client.models),
                all_models=each.client.may_use_all,
                ends_at=each.ends_at or 0,
            )
            for each in self._access.tokens.table()
        ]
        tokens = seam.Tokens(clients=clients).SerializeToString()
        self._library.set_tokens(self._front, tokens, len(tokens))

    def _read_tokens(self) -> None:
        while self._access.tokens is not None and not self._stopping.wait(TOKENS_SECONDS):
            self._access.tokens.look()

    def _certificates_of(self, certificates: Certificates | None) -> Any:  # noqa: ANN401  for ctypes
        """Return what writes the present certificates where the library wants them."""
        first = True

        def fetch(where: Any) -> int:  # noqa: ANN401
            nonlocal first
            assert certificates is not None, "an encrypted port has them"
            present = certificates.present if first else certificates.renewed()
            if present is None:
                return 0
            first = False
            key, chain, authority = present
            self._present = seam.Certificates(
                key=key, chain=chain, client_authority=authority or b""
            ).SerializeToString()
            where[0] = Bytes(ctypes.cast(ctypes.c_char_p(self._present), ctypes.c_void_p), len(self._present))
            return 1

        return fetch


def _durations(histogram: seam.Counts.Histogram) -> Durations:
    return Durations(buckets=histogram.buckets, seconds=histogram.sum)


def _refusal(error: ServingError) -> seam.Refusal:
    """Return an answer that the library gives by itself, worded here."""
    return seam.Refusal(code=STATUS_CODES[type(error)].value[0], reason=error.reason, message=str(error))
