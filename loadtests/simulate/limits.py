"""What breaks first when there are many replicas: arithmetic on what was measured."""

from dataclasses import dataclass
from math import ceil

from loadtests.simulate.costs import ServerCost

DNS_HEADER_BYTES = 12
DNS_QUESTION_BYTES = 4
"""After the name: type and class."""
DNS_RECORD_BYTES = 16
"""An A record whose name is a pointer to the question (RFC 1035, 4.1.3 and 4.1.4): 2 + 2 + 2 + 4 + 2 + 4."""
DNS_OPT_BYTES = 11
"""EDNS0's own record (RFC 6891)."""
UDP_BYTES = (512, 1232, 4096)
"""Answers of DNS over UDP: without EDNS0 (RFC 1035), as the DNS flag day of 2020 asks for, and a common older size."""
TCP_BYTES = 65535
MIB = 2**20
SCRAPE_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the arithmetic is done for.

    Attributes:
        replicas: of the server, one core each.
        clients: processes that call.
        proxies: Envoys.
        proxy_workers: threads of each, with connections of their own.
        versions: of models that each replica serves.
        model_mib: of a new version, fetched by every replica.
        store_gbit: that the model store can send, gigabits per second.
        node_gbit: that each replica can receive.
        probe_seconds: between two health checks of a proxy to a replica.
        start_seconds: until a new replica is ready: scheduling, image, models, warm-up.
        drain_seconds: of a replica that leaves.
        surge: replicas more, as a share, during a rolling update; `unavailable` so many fewer.
        unavailable: see `surge`.
        name: of the headless service.
    """

    replicas: int = 1000
    clients: int = 2000
    proxies: int = 10
    proxy_workers: int = 4
    versions: int = 2
    model_mib: float = 64.0
    store_gbit: float = 10.0
    node_gbit: float = 1.0
    probe_seconds: float = 5.0
    start_seconds: float = 30.0
    drain_seconds: float = 35.0
    surge: float = 0.25
    unavailable: float = 0.0
    name: str = "lstm-serve-headless.lstm-serving.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: what, how much of which unit, and what bounds it."""

    subject: str
    measure: str
    value: float
    bound: str = ""


def dns_answer_bytes(records: int, name: str, *, edns: bool) -> int:
    """Return the size of a DNS answer with so many A records of one name."""
    question = len(name) + 2 + DNS_QUESTION_BYTES
    return DNS_HEADER_BYTES + question + records * DNS_RECORD_BYTES + (DNS_OPT_BYTES if edns else 0)


def dns_records(most_bytes: int, name: str, *, edns: bool) -> int:
    """Return how many A records fit into an answer of so many bytes."""
    return (most_bytes - dns_answer_bytes(0, name, edns=edns)) // DNS_RECORD_BYTES


def rolling_update_seconds(cluster: Cluster) -> float:
    """Return how long a rolling update takes: as many at a time as may be more and fewer, then the last drain."""
    wave = ceil(cluster.replicas * cluster.surge) + int(cluster.replicas * cluster.unavailable)
    return ceil(cluster.replicas / wave) * cluster.start_seconds + cluster.drain_seconds


def figures(cluster: Cluster, server: ServerCost) -> list[Figure]:
    """Return the numbers for a cluster of servers like the measured one."""
    return [
        *_connections(cluster),
        *_scrapes(cluster, server),
        *_reloads(cluster, server),
        *_probes(cluster, server),
        *_names(cluster),
        Figure("rolling update", "minutes", rolling_update_seconds(cluster) / 60, "maxSurge, maxUnavailable, start-up"),
    ]


def _connections(cluster: Cluster) -> list[Figure]:
    direct = cluster.clients * cluster.replicas
    proxied = cluster.proxies * cluster.proxy_workers * cluster.replicas
    return [
        Figure("connections, clients balance", "of each replica", cluster.clients, "--max-connections (1000)"),
        Figure("connections, clients balance", "of each client", cluster.replicas, "its descriptors (often 1024)"),
        Figure("connections, clients balance", "in all", direct),
        Figure("connections, by Envoys", "of each replica", cluster.proxies * cluster.proxy_workers),
        Figure("connections, by Envoys", "of each Envoy", cluster.proxy_workers * cluster.replicas),
        Figure("connections, by Envoys", "in all", proxied + cluster.clients),
    ]


def _scrapes(cluster: Cluster, server: ServerCost) -> list[Figure]:
    series = server.server_series + cluster.versions * server.version_series
    page_bytes = server.page_bytes * series / (server.server_series + server.version_series)
    return [
        Figure("scrapes", "series of a replica", series),
        Figure("scrapes", "active series, millions", series * cluster.replicas / 1e6, "one Prometheus: a few million"),
        Figure("scrapes", "samples per second", series * cluster.replicas / SCRAPE_SECONDS),
        Figure("scrapes", "MiB per second, uncompressed", page_bytes * cluster.replicas / SCRAPE_SECONDS / MIB),
        Figure("scrapes", "share of a replica's core, %", 100 * server.scrape / SCRAPE_SECONDS),
    ]


def _reloads(cluster: Cluster, server: ServerCost) -> list[Figure]:
    gbit = cluster.model_mib * MIB * 8 / 1e9
    return [
        Figure("reload by all", "GiB from the store", cluster.model_mib * cluster.replicas / 1024),
        Figure("reload by all", "seconds at the store's rate", gbit * cluster.replicas / cluster.store_gbit),
        Figure("reload by all", "seconds at a replica's rate", gbit / cluster.node_gbit),
        Figure("reload by all", "core seconds of loading, per replica", server.load),
    ]


def _probes(cluster: Cluster, server: ServerCost) -> list[Figure]:
    by_proxy = cluster.proxies / cluster.probe_seconds
    return [
        Figure("health checks by Envoys", "per second of each replica", by_proxy),
        Figure("health checks by Envoys", "per second of each Envoy", cluster.replicas / cluster.probe_seconds),
        Figure("health checks by Envoys", "per second in all", by_proxy * cluster.replicas),
        Figure("health checks by Envoys", "share of a replica's core, %", 100 * by_proxy * server.probe),
        Figure(
            "health checks by every client",
            "share of a replica's core, %",
            100 * cluster.clients / cluster.probe_seconds * server.probe,
        ),
    ]


def _names(cluster: Cluster) -> list[Figure]:
    name, count = cluster.name, cluster.replicas
    fit = [
        Figure("DNS, headless Service", f"addresses in {most} bytes of UDP", dns_records(most, name, edns=most > 512))
        for most in UDP_BYTES
    ]
    return [
        Figure("DNS, headless Service", "bytes of an answer", dns_answer_bytes(count, name, edns=True)),
        *fit,
        Figure("DNS, headless Service", "addresses in an answer over TCP", dns_records(TCP_BYTES, name, edns=True)),
    ]
