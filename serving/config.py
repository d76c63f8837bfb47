"""The server's settings: flags, then environment variables (`LSTM_SERVE_...`). The only reader of both."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl
from pydantic_settings import BaseSettings, CliImplicitFlag, SettingsConfigDict

from serving.logs import LogFormat, LogLevel

Port = Annotated[int, Field(ge=0, le=65535)]


class ServerConfig(BaseSettings):
    """Serve recurrent models over the Open Inference Protocol (gRPC), with metrics for Prometheus."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="LSTM_SERVE_",
        cli_kebab_case=True,
        cli_prog_name="lstm-serve",
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    model_repository: Path = Field(description="folder of models: <name>/<version>/{model.onnx,manifest.json}")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all, which opens an unencrypted port")
    grpc_port: Port = Field(8001, description="port of the inference protocol; 0 takes a free one")
    metrics_port: Port = Field(8002, description="port of /metrics; 0 takes a free one")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where models compute; auto: CUDA if it works")
    engine: Literal["auto", "native", "onnxruntime"] = Field(
        "auto",
        description="what runs INT8 versions that have a native plan: auto does what each of them prefers, if the "
        "native engine was built",
    )
    threads: int | None = Field(
        None, ge=1, description="threads of one engine call on the CPU; default: what affinity and cgroup quota allow"
    )
    max_inflight_requests: int = Field(
        256, ge=1, le=4096, description="inference requests at a time; those beyond are refused"
    )
    max_streams: int = Field(
        64, ge=1, le=4096, description="open ModelStreamInfer calls at a time; those beyond are refused"
    )
    max_message_mib: int = Field(64, ge=1, le=1024, description="largest gRPC message in MiB")
    drain_timeout_seconds: float = Field(
        30.0, ge=0, description="how long calls in flight may take to finish after SIGTERM"
    )
    log_format: LogFormat = Field("auto", description="lines on stderr; auto: text on a terminal, JSON elsewhere")
    log_level: LogLevel = Field("info", description="the least that is logged")
    log_requests: CliImplicitFlag[bool] = Field(
        default=False, description="log one line per request of a model that serves, whatever became of it"
    )
    tracing_endpoint: HttpUrl | None = Field(
        None,
        description="where traces go, as OTLP over HTTP: http://host:4318 (without a path, /v1/traces is added); needs "
        "the extra 'tracing'; default: no traces",
    )
    tracing_sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of requests that are traced, of those that come without a trace of their own",
    )
