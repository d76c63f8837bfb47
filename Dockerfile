# The serving image: lstm-serve, ONNX Runtime, the native INT8 engine and the native front; no torch, no compiler, no pip.
#
#     docker build --build-arg DEVICE=cpu -t lstm-serve:0.1.0-cpu .
#     docker build --build-arg DEVICE=gpu -t lstm-serve:0.1.0-gpu .
#
# deploy/image/install.sh does the work, and a test runs it without a container engine. Base images are pinned to a version;
# to pin the bytes too, put the digest behind the tag (`python:3.11.15-slim-bookworm@sha256:...`), as this prints it:
#
#     docker buildx imagetools inspect python:3.11.15-slim-bookworm --format '{{.Manifest.Digest}}'

# cpu: ONNX Runtime for the CPU. gpu: ONNX Runtime with CUDA 13 and cuDNN 9. Another value is no stage of this file.
ARG DEVICE=cpu

# The Debian and the Python that the test suite runs on.
FROM python:3.11.15-slim-bookworm AS base-cpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgrpc++1.51 libprotobuf32 \
    && rm -rf /var/lib/apt/lists/*

# NVIDIA has CUDA on Ubuntu; its Python is 3.12.
FROM nvidia/cuda:13.2.1-cudnn-runtime-ubuntu24.04 AS base-gpu
# Without versions: a distribution's archive keeps only the newest of each package, so a pinned one soon cannot be had.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgrpc++1.51t64 libprotobuf32t64 python3 \
    && rm -rf /var/lib/apt/lists/*

# On the same base as the last stage, so that wheels, libstdc++ and the interpreter's path are the ones that will be there.
# hadolint ignore=DL3006
FROM base-${DEVICE} AS build
ARG DEVICE
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        g++ libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY CMakeLists.txt pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY serving serving
COPY export export
COPY deploy/image/install.sh deploy/image/install.sh
RUN --mount=type=cache,target=/root/.cache/pip sh deploy/image/install.sh "$DEVICE" /opt/lstm-serve

# hadolint ignore=DL3006
FROM base-${DEVICE} AS runtime
ARG DEVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lstm-serve" \
      org.opencontainers.image.description="gRPC server for LSTMs over the Open Inference Protocol ($DEVICE)" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/lstm-serve /opt/lstm-serve
COPY deploy/image/healthcheck.py /opt/lstm-serve/healthcheck.py

# A container's loopback is its own, so the server listens on all of its addresses.
ENV PATH=/opt/lstm-serve/bin:$PATH \
    LSTM_SERVE_HOST=0.0.0.0 \
    LSTM_SERVE_MODEL_REPOSITORY=/models

# By number, so that Kubernetes can see that it is not root (runAsNonRoot). No file is ever written: the root file system
# may be read-only, and there need be no /tmp.
USER 65532:65532
WORKDIR /
EXPOSE 8001 8002

# Healthy is ready: models are loaded, and the server does not drain. The start may take as long as loading takes.
# Kubernetes has probes of its own and never looks at this.
HEALTHCHECK --interval=5s --timeout=3s --start-period=300s --retries=2 \
    CMD ["/opt/lstm-serve/bin/python", "-I", "/opt/lstm-serve/healthcheck.py"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["lstm-serve"]
