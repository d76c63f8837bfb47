"""The Open Inference Protocol's methods, but for the two that infer (`front`); `control` brings their calls."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from serving import __version__
from serving._proto import open_inference_pb2 as oip
from serving.errors import InvalidRequest, NotReady
from serving.repository import Model, Repository, Version
from serving.wire import outputs
from serving.wire.model_config import PLATFORM, model_config
from serving.wire.statistics import StatisticsSource, statistics_response

SERVER_NAME = "lstm-serve"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "schedule_policy", "statistics")
"""Of the protocol, by the names that Triton gave them."""


class RepositoryControl(Protocol):
    """What loads models and lets them go; `serving.repository.control.ModelControl`."""

    def load(self, name: str) -> None:
        """Load a model from its files; returns when it serves."""

    def unload(self, name: str) -> None:
        """Let a model go; returns when what it had accepted is answered."""

    def index(self) -> Iterable[Version]:
        """Return every version, and why those that do not serve do not."""


class ControlService:
    """Everything but inference: the calls that say what is served, and whether."""

    def __init__(self, repository: Repository, control: RepositoryControl, statistics: StatisticsSource) -> None:
        """Tell of a repository and of what was counted of its models, and pass on what is to change of it."""
        self._repository = repository
        self._statistics = statistics
        self._control = control
        self.ready = False

    def ServerLive(self, request: oip.ServerLiveRequest) -> oip.ServerLiveResponse:
        """Answer true: the process runs."""
        del request
        return oip.ServerLiveResponse(live=True)

    def ServerReady(self, request: oip.ServerReadyRequest) -> oip.ServerReadyResponse:
        """Answer whether the server takes requests."""
        del request
        return oip.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request: oip.ModelReadyRequest) -> oip.ModelReadyResponse:
        """Answer whether a model (a version of it) serves; NOT_FOUND if there is none of that name."""
        try:
            self._repository.find(request.name, request.version)
        except NotReady:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=self.ready)

    def ServerMetadata(self, request: oip.ServerMetadataRequest) -> oip.ServerMetadataResponse:
        """Answer name, version and the extensions of the protocol that are offered."""
        del request
        return oip.ServerMetadataResponse(name=SERVER_NAME, version=__version__, extensions=EXTENSIONS)

    def ModelMetadata(self, request: oip.ModelMetadataRequest) -> oip.ModelMetadataResponse:
        """Answer a model's tensors, the versions that serve, and the properties that decide how it is batched."""
        model = self._repository.find(request.name, request.version)
        return self._metadata(model)

    def ModelStatistics(self, request: oip.ModelStatisticsRequest) -> oip.ModelStatisticsResponse:
        """Answer what was counted of a version, of a model's versions, or of all that serve."""
        found = self._repository.find(request.name, request.version) if request.name else None
        version = str(found.manifest.version) if found is not None and request.version else ""
        return statistics_response(self._statistics.statistics(), name=request.name, version=version)

    def _metadata(self, model: Model) -> oip.ModelMetadataResponse:
        manifest = model.manifest
        response = oip.ModelMetadataResponse(
            name=manifest.name,
            versions=[str(version) for version in self._repository.versions(manifest.name)],
            platform=PLATFORM,
            properties={
                "precision": manifest.precision,
                "stepwise": str(manifest.stepwise).lower(),
                "equal_lengths": str(manifest.equal_lengths).lower(),
                "lengths_input": manifest.lengths_input or "",
                "state_input": manifest.state.input if manifest.state is not None else "",
            },
        )
        for tensor in manifest.inputs:
            if tensor.vocabulary is not None:
                response.properties[f"vocabulary.{tensor.name}"] = str(tensor.vocabulary)
        for side, described in ((response.inputs, manifest.inputs), (response.outputs, outputs.Offer(manifest).all)):
            for output in described:
                side.add(name=output.name, datatype=outputs.wire_datatype(output), shape=outputs.wire_shape(output))
        return response

    def ModelConfig(self, request: oip.ModelConfigRequest) -> oip.ModelConfigResponse:
        """Answer how a model is served: shapes, limits and policy."""
        return oip.ModelConfigResponse(config=model_config(self._repository.find(request.name, request.version)))

    def RepositoryIndex(self, request: oip.RepositoryIndexRequest) -> oip.RepositoryIndexResponse:
        """Answer every version that is or was to be served, its state, and why it does not serve."""
        _check_repository(request.repository_name)
        response = oip.RepositoryIndexResponse()
        for version in self._control.index():
            if version.status == "READY" or not request.ready:
                response.models.add(
                    name=version.name, version=str(version.number), state=version.status, reason=version.reason
                )
        return response

    def RepositoryModelLoad(self, request: oip.RepositoryModelLoadRequest) -> oip.RepositoryModelLoadResponse:
        """Load a model from its files, again if it serves already; answers when it serves."""
        _check_names(request)
        _check_no_parameters(request.parameters)
        self._control.load(request.model_name)
        return oip.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request: oip.RepositoryModelUnloadRequest) -> oip.RepositoryModelUnloadResponse:
        """Let a model go; answers when what it had accepted is answered."""
        _check_names(request)
        self._control.unload(request.model_name)
        return oip.RepositoryModelUnloadResponse()


def _check_names(request: oip.RepositoryModelLoadRequest | oip.RepositoryModelUnloadRequest) -> None:
    if request.repository_name and not request.model_name:
        raise InvalidRequest(
            f"model_name is empty, and repository_name is '{request.repository_name}'; this call takes Triton's "
            "message, where model_name is field 2. In KServe's it is field 1; use a client of Triton's, as tritonclient"
        )
    _check_repository(request.repository_name)


def _check_repository(name: str) -> None:
    if name:
        raise InvalidRequest(f"repository_name is '{name}'; this server has one repository, so leave it empty")


def _check_no_parameters(parameters: Mapping[str, oip.ModelRepositoryParameter]) -> None:
    if parameters:
        raise InvalidRequest(
            f"parameter '{min(parameters)}' is not supported: what is served are the files in the repository, with "
            "their proofs, as model.yaml says; change those and load the model again"
        )
