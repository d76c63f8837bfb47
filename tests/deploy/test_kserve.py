"""The server under KServe: the runtime's arguments are the server's, and it serves folders as KServe lays them out."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.config import ServerConfig
from serving.wire.server import LAST_BYTES_SECONDS, LAST_CALLS_SECONDS
from tests.config.house import settings_of
from tests.deploy.kustomize import DEPLOY, Resource, build, build_overlay, only, server_container, server_variables
from tests.deploy.pod_security import violations
from tests.support.artefacts import write_lstm
from training.local_server import LSTM_SERVE, LocalServer

MOUNTED_AT = "/mnt/models"
"""Where KServe puts what `storageUri` names. Source: kserve, pkg/constants, DefaultModelLocalMountPath."""
RUNTIME_FIELDS = {"annotations", "containers", "multiModel", "protocolVersions", "supportedModelFormats"}
FORMAT_FIELDS = {"name", "version", "autoSelect", "priority"}
MODEL_FIELDS = {"modelFormat", "protocolVersion", "runtime", "storageUri"}
PREDICTOR_FIELDS = {
    "automountServiceAccountToken", "deploymentStrategy", "enableServiceLinks", "minReplicas", "model",
    "terminationGracePeriodSeconds",
}  # fmt: skip
"""Of those that KServe's Python SDK 0.21 has (kserve.models); no package ships the schemas."""


@pytest.fixture
def resources() -> list[Resource]:
    return build(DEPLOY / "kserve")


@pytest.fixture
def runtime(resources: list[Resource]) -> Resource:
    return only(resources, "ServingRuntime", "lstm-serve")


@pytest.fixture
def container(runtime: Resource) -> Resource:
    (found,) = runtime["spec"]["containers"]
    return dict(found)


@pytest.fixture
def service(resources: list[Resource]) -> Resource:
    return only(resources, "InferenceService", "lstm")


def config_of(container: Resource) -> ServerConfig:
    """Read the settings as the server in this container does."""
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    return settings_of(*container["args"], **variables).config


def test_the_resources_have_fields_that_kserve_knows(runtime: Resource, service: Resource) -> None:
    assert (runtime["apiVersion"], service["apiVersion"]) == ("serving.kserve.io/v1alpha1", "serving.kserve.io/v1beta1")
    assert runtime["spec"].keys() <= RUNTIME_FIELDS
    for model_format in runtime["spec"]["supportedModelFormats"]:
        assert model_format.keys() <= FORMAT_FIELDS
    assert service["spec"].keys() == {"predictor"}
    assert service["spec"]["predictor"].keys() <= PREDICTOR_FIELDS
    assert service["spec"]["predictor"]["model"].keys() <= MODEL_FIELDS


def test_the_service_finds_its_runtime(runtime: Resource, service: Resource, container: Resource) -> None:
    model = service["spec"]["predictor"]["model"]

    assert runtime["spec"]["multiModel"] is False
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert model["modelFormat"]["name"] in {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
    assert container["name"] == "kserve-container"


def test_the_one_port_is_grpc_under_knatives_name(container: Resource, runtime: Resource) -> None:
    config = config_of(container)

    assert container["ports"] == [{"name": "h2c", "containerPort": config.grpc_port, "protocol": "TCP"}]
    assert runtime["spec"]["annotations"]["prometheus.kserve.io/port"] == str(config.metrics_port)


def test_the_container_is_the_deployments_but_for_where_its_settings_are(container: Resource) -> None:
    ours = server_container(build_overlay("cpu"))
    metrics_port = next(port["containerPort"] for port in ours["ports"] if port["name"] == "metrics")

    for field in ("image", "resources", "startupProbe", "readinessProbe"):
        assert container[field] == ours[field], field
    ours["livenessProbe"]["httpGet"]["port"] = metrics_port  # which has no name here
    assert container["livenessProbe"] == ours["livenessProbe"]
    theirs = settings_of(**server_variables(build_overlay("cpu"))).config
    assert config_of(container).model_copy(update={"model_repository": theirs.model_repository}) == theirs


def test_the_container_is_admitted_by_the_restricted_profile(container: Resource) -> None:
    assert violations({"containers": [container]}) == []
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_there_is_time_to_drain_before_the_kill(service: Resource, container: Resource) -> None:
    config = config_of(container)
    drain = config.drain_delay_seconds + config.drain_timeout_seconds + LAST_CALLS_SECONDS + LAST_BYTES_SECONDS

    assert service["spec"]["predictor"]["terminationGracePeriodSeconds"] >= drain + 5


def copied(models: Path, mounted: Path) -> None:
    """What the storage initializer downloads, and what a claim shows."""
    shutil.copytree(models, mounted)


def linked(models: Path, mounted: Path) -> None:
    """What the storage initializer makes of a local folder: a folder of links."""
    mounted.mkdir()
    for entry in models.iterdir():
        (mounted / entry.name).symlink_to(entry)


def model_car(models: Path, mounted: Path) -> None:
    """What a model in an OCI image is: a link into another container's file system."""
    mounted.symlink_to(models)


def single_models(models: Path, mounted: Path) -> None:
    """What `storageUris` with a `mountPath` for each model make, /mnt/models/<name>."""
    mounted.mkdir()
    for entry in models.iterdir():
        shutil.copytree(entry, mounted / entry.name)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("bucket") / "models"
    write_lstm(repository)
    write_lstm(repository, "causal", bidirectional=False, stepwise=True)
    return repository


def flags(container: Resource) -> list[str]:
    """Return the runtime's flags but for where the models are, which a test has elsewhere."""
    repository, *others = container["args"]
    assert repository == f"--model-repository={MOUNTED_AT}"
    return list(others)


@pytest.mark.parametrize("lay_out", [copied, linked, model_car, single_models])
def test_a_repository_as_kserve_mounts_it_is_served(
    lay_out: Callable[[Path, Path], None], models: Path, container: Resource, tmp_path: Path
) -> None:
    mounted = tmp_path / "models"
    lay_out(models, mounted)

    with LocalServer(mounted, *flags(container)) as server, grpc.insecure_channel(server.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for name in ("lstm", "causal"):
            assert stub.ModelReady(oip.ModelReadyRequest(name=name), timeout=10).ready


def test_the_folder_of_one_model_is_none_of_models(models: Path, container: Resource, tmp_path: Path) -> None:
    """So deploy/README.md says what to write instead: the folder above, or a mountPath."""
    mounted = tmp_path / "models"
    copied(models / "lstm", mounted)

    command = [LSTM_SERVE, f"--model-repository={mounted}", "--grpc-port=0", "--metrics-port=0", *flags(container)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert str(mounted) in ended.stderr
