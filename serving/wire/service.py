"""The Open Inference Protocol's methods over grpcio."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from serving import __version__
from serving._proto import open_inference_pb2 as oip
from serving._proto.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from serving.errors import Draining, NotReady
from serving.repository import Model, Repository
from serving.wire import outputs
from serving.wire.inference import Inference
from serving.wire.slots import Slots
from serving.wire.status import abort, as_serving_error, errors_as_status
from serving.wire.streams import Stream

SERVER_NAME = "lstm-serve"
PLATFORM = "onnxruntime_onnx"


class InferenceService(GRPCInferenceServiceServicer):
    """One thread per call, which waits for its reply."""

    def __init__(self, inference: Inference, repository: Repository, *, stream_slots: Slots) -> None:
        """Serve.

        Args:
            inference: answers requests.
            repository: of the models that it knows.
            stream_slots: each open stream takes one.
        """
        self._inference = inference
        self._repository = repository
        self._stream_slots = stream_slots
        self._streams: set[Stream] = set()
        self._streams_lock = threading.Lock()
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

    def ModelInfer(self, request: oip.ModelInferRequest, context: grpc.ServicerContext) -> oip.ModelInferResponse:
        """Answer the rows of one request, batched with whatever else waits."""
        try:
            pending = self._inference.begin(request, context)
            if not context.add_callback(pending.cancel):
                pending.cancel()  # the client has left already
            return pending.response()
        except Exception as error:  # noqa: BLE001  the outermost frame of a call
            abort(context, as_serving_error(error))

    def ModelStreamInfer(
        self, request_iterator: Iterator[oip.ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[oip.ModelStreamInferResponse]:
        """Answer many requests over one call, in their order."""
        with errors_as_status(context), self._open(Stream(self._inference, request_iterator, context)) as stream:
            yield from stream.answers()

    def drain(self) -> None:
        """Take nothing new on the streams that are open; what is under way is still answered."""
        self.ready = False
        with self._streams_lock:
            streams = list(self._streams)
        for stream in streams:
            stream.drain()

    @contextmanager
    def _open(self, stream: Stream) -> Iterator[Stream]:
        """Hold one of the places for streams inside.

        Raises:
            Draining: the server is stopping.
            QueueFull: all places are taken.
        """
        self._stream_slots.take()
        try:
            with self._streams_lock:
                if not self.ready:
                    raise Draining("the server is stopping; retry on another replica")
                self._streams.add(stream)
            yield stream
        finally:
            with self._streams_lock:
                self._streams.discard(stream)
            self._stream_slots.give_back()

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
