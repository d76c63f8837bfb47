"""The arithmetic of large clusters, against figures made in another way."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from loadtests.simulate.costs import ServerCost
from loadtests.simulate.limits import Cluster, dns_answer_bytes, dns_records, figures, rolling_update_seconds

NAME = "lstm-serve-headless.lstm-serving.svc.cluster.local"
SERVER = ServerCost(
    start=3.0, load=0.5, version_series=160, server_series=40, page_bytes=20_000, scrape=0.003, probe=0.0003
)


def encoded(records: int) -> bytes:
    """An answer as RFC 1035 has it: header, question, records whose names point to the question."""
    header = struct.pack("!6H", 1, 0x8180, 1, records, 0, 0)
    name = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split(".")) + b"\0"
    address = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 30, 4, 10, 0, 0, 1)
    return header + name + struct.pack("!2H", 1, 1) + records * address


@given(st.integers(0, 4000))
def test_dns_answers_are_as_long_as_they_are_encoded(records: int) -> None:
    assert dns_answer_bytes(records, NAME, edns=False) == len(encoded(records))


@given(st.integers(200, 65535), st.booleans())
def test_no_more_records_than_fit(most_bytes: int, edns: bool) -> None:
    records = dns_records(most_bytes, NAME, edns=edns)

    assert dns_answer_bytes(records, NAME, edns=edns) <= most_bytes
    assert dns_answer_bytes(records + 1, NAME, edns=edns) > most_bytes


def test_a_rolling_update_goes_in_waves() -> None:
    """1,000 replicas, 250 more at a time: four waves of a start, then the last drain."""
    assert rolling_update_seconds(Cluster(start_seconds=30, drain_seconds=35)) == 4 * 30 + 35
    assert rolling_update_seconds(Cluster(surge=0.1, unavailable=0.15, start_seconds=10, drain_seconds=0)) == 40


def test_each_number_follows_from_the_cluster() -> None:
    found = {(figure.subject, figure.measure): figure.value for figure in figures(Cluster(), SERVER)}

    assert found["connections, clients balance", "in all"] == 2_000_000
    assert found["connections, by Envoys", "of each replica"] == 40
    assert found["scrapes", "series of a replica"] == 40 + 2 * 160
    assert found["scrapes", "samples per second"] == 360 * 1000 / 15
    assert found["health checks by Envoys", "per second in all"] == 2000
    assert found["reload by all", "GiB from the store"] == 62.5
    assert abs(found["reload by all", "seconds at the store's rate"] - 53.7) < 0.1
