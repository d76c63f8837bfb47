"""The Open Inference Protocol's methods over grpcio, but for the two that infer (`front`)."""

import grpc

from serving import __version__
from serving._proto import open_inference_pb2 as oip
from serving.errors import NotReady
from serving.repository import Model, Repository
from serving.wire import outputs
from serving.wire.statistics import StatisticsSource, statistics_response
from serving.wire.status import errors_as_status

SERVER_NAME = "lstm-serve"
PLATFORM = "onnxruntime_onnx"


class ControlService:
    """Everything but inference: the calls that say what is served, and whether."""

    def __init__(self, repository: Repository, statistics: StatisticsSource) -> None:
        """Tell of a repository, and of what was counted of its models."""
        self._repository = repository
        self._statistics = statistics
        self.ready = False

    def ServerLive(self, request: oip.ServerLiveRequest, context: grpc.ServicerContext) -> oip.ServerLiveResponse:
        """Answer true: the process runs."""
        del request, context
        return oip.ServerLiveResponse(live=True)

    def ServerReady(self, request: oip.ServerReadyRequest, context: grpc.ServicerContext) -> oip.ServerReadyResponse:
        """Answer whether the server takes requests."""
        del request, context
        return oip.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request: oip.ModelReadyRequest, context: grpc.ServicerContext) -> oip.ModelReadyResponse:
        """Answer whether a model (a version of it) serves; NOT_FOUND if there is none of that name."""
        with errors_as_status(context):
            try:
                self._repository.find(request.name, request.version)
            except NotReady:
                return oip.ModelReadyResponse(ready=False)
            return oip.ModelReadyResponse(ready=self.ready)

    def ServerMetadata(
        self, request: oip.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> oip.ServerMetadataResponse:
        """Answer name, version and the extensions of the protocol that are offered."""
        del request, context
        return oip.ServerMetadataResponse(name=SERVER_NAME, version=__version__, extensions=["binary_tensor_data"])

    def ModelMetadata(
        self, request: oip.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> oip.ModelMetadataResponse:
        """Answer a model's tensors, the versions that serve, and the properties that decide how it is batched."""
        with errors_as_status(context):
            model = self._repository.find(request.name, request.version)
            return self._metadata(model)

    def ModelStatistics(
        self, request: oip.ModelStatisticsRequest, context: grpc.ServicerContext
    ) -> oip.ModelStatisticsResponse:
        """Answer what was counted of a version, of a model's versions, or of all that serve."""
        with errors_as_status(context):
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
