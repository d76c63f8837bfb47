"""`docs/metrics.md` against the server: every metric and nothing else, and queries that Prometheus can read."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import Metric

from serving.errors import reasons
from serving.metrics import ServerMetrics

PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^```promql\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \| ([a-z_, ]*) ?\|", re.MULTILINE)


@pytest.fixture(scope="module")
def families() -> list[Metric]:
    """Every family that a server can have."""
    metrics = ServerMetrics(cpu_threads=2, cpu_quota_cores=1.5, onnxruntime_version="1.32.0")
    metrics.model_loaded("lstm", "1", 0.5)
    metrics.describe_model("lstm", "1", precision="int8", engine="native")
    return list(metrics.registry.collect())


def exposed_name(family: Metric) -> str:
    """Return the name as Prometheus knows it."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def test_every_metric_is_on_the_page_with_its_type_and_labels_and_nothing_else(families: list[Metric]) -> None:
    shown = {
        exposed_name(family): (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in families
    }
    rows = ROW.findall(PAGE)

    assert len(rows) == len({name for name, *_ in rows})
    assert {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in rows} == shown


def test_the_page_tells_every_outcome() -> None:
    section = PAGE.partition("### Outcomes")[2].partition("\n## ")[0]

    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == {"ok", *reasons()}


def test_queries_ask_for_what_is_there(families: list[Metric]) -> None:
    samples = {sample.name for family in families for sample in family.samples if not sample.name.endswith("_created")}
    named = set(re.findall(r"\b(?:lstm|process|python)_\w+", " ".join(QUERIES)))

    assert len(QUERIES) > 10
    assert named <= samples


def test_buckets_that_queries_name_are_there(families: list[Metric]) -> None:
    bounds = {
        (sample.name, sample.labels["le"]) for family in families for sample in family.samples if "le" in sample.labels
    }
    named = set(re.findall(r'(\w+_bucket)\{[^}]*le="([^"]+)"', " ".join(QUERIES)))

    assert named
    assert named <= bounds


def test_prometheus_can_read_the_queries(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(QUERIES)]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}), encoding="utf-8")  # JSON is YAML

    checked = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False, timeout=60
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(QUERIES)} rules found" in checked.stdout
