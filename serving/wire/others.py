"""All calls but those that infer: which there are, and what begins each; the same whichever front brings them."""

from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2

from serving._proto import open_inference_pb2 as oip
from serving.wire import health, reflection
from serving.wire.access import Access
from serving.wire.control import Control, path_of
from serving.wire.reflection import Reflection
from serving.wire.service import ControlService

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.wire.call import Call

SERVICE_NAME = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
METHODS = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
SERVICES_WITH_HEALTH = (health.OVERALL, SERVICE_NAME)
HEALTH_WATCHES = 4096
"""At a time, of all clients; they need no threads. A client that balances its load has one for each connection."""


class Others:
    """The methods, and whether the server says that it is ready.

    Attributes:
        begin: what begins a call, by the full name of its method.
        health: what is told of each service.
        control: what calls share that are answered by threads.
    """

    def __init__(self, service: ControlService, access: Access, *, max_message_bytes: int, reflects: bool) -> None:
        """Look up the methods.

        Args:
            service: answers the contract's.
            access: says who may call.
            max_message_bytes: largest message, inflated if it comes compressed.
            reflects: whether the server tells what its services and messages are.
        """
        self._service = service
        self.health = health.Health(max_watches=HEALTH_WATCHES, max_message_bytes=max_message_bytes)
        self.control = Control(access, max_message_bytes=max_message_bytes)
        self.begin: dict[str, Callable[[Call], None]] = {
            health.WATCH: self.health.begin_watch,
            path_of(health.CHECK): self.control.unary(health.CHECK, self.health.Check),
        }
        for name, method in METHODS.items():
            if hasattr(service, name):
                self.begin[path_of(method)] = self.control.unary(method, getattr(service, name))
        if reflects:
            services = (SERVICE_NAME, health.SERVICE.full_name, reflection.SERVICE.full_name)
            self.begin[path_of(reflection.INFO)] = self.control.stream(reflection.INFO, Reflection(services).answer)
        self.set_ready(ready=False)

    def set_ready(self, *, ready: bool) -> None:
        """Say to health checks whether calls should come here."""
        self._service.ready = ready
        for name in SERVICES_WITH_HEALTH:
            self.health.set(name, health_of(ready=ready))


def health_of(*, ready: bool) -> health.Status:
    """Return what is told to health checks."""
    return health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
