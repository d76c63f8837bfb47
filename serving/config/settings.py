"""Every setting of the server: its type, range, default and meaning; and which of them exclude each other."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, HttpUrl, StringConstraints, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from serving.logs import LogFormat, LogLevel

ENVIRONMENT_PREFIX = "LSTM_SERVE_"


def _split(value: object) -> object:
    """Take text apart that a flag, a variable or a key has for a list: commas between, or a list in JSON."""
    if isinstance(value, str):
        return _names(value)
    if isinstance(value, list):
        return [name for each in value for name in (_names(each) if isinstance(each, str) else [each])]
    return value


def _names(text: str) -> list[object]:
    if not text.lstrip().startswith("["):
        return list(text.split(","))
    try:
        names: list[object] = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"begins like a list in JSON, and is none ({error})") from error
    return names


Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Names = Annotated[list[Name], NoDecode, BeforeValidator(_split)]


class ServerConfig(BaseSettings):
    """Serve recurrent models over the Open Inference Protocol (gRPC), with metrics for Prometheus."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        env_prefix=ENVIRONMENT_PREFIX,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags=True,
    )

    config: Path | None = Field(None, description="YAML file of settings, which flags and variables override")
    model_repository: Path = Field(description="folder of models: <name>/<version>/{model.onnx,manifest.json}")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    grpc_port: Port = Field(8001, description="port of the inference protocol; 0 takes a free one")
    metrics_port: Port = Field(8002, description="port of /metrics; 0 takes a free one")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where models compute; auto: CUDA if it works")
    engine: Literal["auto", "native", "onnxruntime"] = Field(
        "auto",
        description="what runs INT8 versions that have a native plan: auto does what each of them prefers, if the "
        "native engine was built",
    )
    wire: Literal["auto", "native", "grpcio"] = Field(
        "auto",
        description="what requests come through: the front in C++ or grpcio's; auto takes the former if it was built",
    )
    threads: int | None = Field(
        None, ge=1, description="threads of one engine call on the CPU; default: what affinity and cgroup quota allow"
    )
    max_inflight_requests: int = Field(
        256, ge=1, le=65536, description="inference requests at a time; those beyond are refused"
    )
    max_streams: int = Field(
        64, ge=1, le=4096, description="open ModelStreamInfer calls at a time; those beyond are refused"
    )
    max_inflight_per_client: int | None = Field(
        None,
        ge=1,
        description="of these, requests of one client at a time; clients are told apart by token, or else by address",
    )
    max_message_mib: int = Field(64, ge=1, le=1024, description="largest gRPC message in MiB")
    max_connection_age_seconds: float = Field(
        300.0,
        ge=0,
        description="how old a connection becomes before its client is asked to connect anew, so that long-lived ones "
        "spread over new replicas; calls under way are not cut; 0 for ever",
    )
    max_connections: int = Field(1000, ge=1, description="connections to the gRPC port; those beyond are closed")
    max_unread_mib: int = Field(
        512, ge=1, description="answers that clients have not read yet, in MiB; beyond, the one that waits longest goes"
    )
    tls_certificate: Path | None = Field(
        None, description="certificate chain of the gRPC port (PEM); without it the port is not encrypted"
    )
    tls_key: Path | None = Field(None, description="key of the certificate (PEM, not encrypted)")
    tls_client_ca: Path | None = Field(
        None, description="authority (PEM) by which a client's certificate must be signed; without it none is asked for"
    )
    tokens: Path | None = Field(
        None, description="file of bearer tokens' hashes and rights (SECURITY.md); without it anyone may infer"
    )
    reflection: bool = Field(True, description="whether the server tells what its services are (gRPC reflection)")
    model_control: Literal["none", "poll", "explicit"] = Field(
        "none",
        description="what loads and unloads models after the start: nothing, changes of the files, or the calls "
        "RepositoryModelLoad and RepositoryModelUnload",
    )
    poll_seconds: float = Field(
        15.0, gt=0, description="how often files are looked at under --model-control poll; two looks must agree"
    )
    load_model: Names = Field(
        [],
        description="a model that is loaded at the start under --model-control explicit; may be repeated, or several "
        "with commas between",
    )
    drain_delay_seconds: float = Field(
        5.0,
        ge=0,
        description="how long the server goes on serving after SIGTERM while it says that it is not ready, so that "
        "load balancers send calls elsewhere first",
    )
    drain_timeout_seconds: float = Field(
        30.0, ge=0, description="how long calls in flight may take to finish after SIGTERM"
    )
    log_format: LogFormat = Field("auto", description="lines on stderr; auto: text on a terminal, JSON elsewhere")
    log_level: LogLevel = Field("info", description="the least that is logged")
    log_requests: bool = Field(
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the constructor is given and nothing else: `serving.config.sources` knows where it came from."""
        return (init_settings,)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.grpc_port == self.metrics_port != 0:
            raise ValueError(f"--grpc-port and --metrics-port are both {self.grpc_port}; give them two ports")
        if self.engine == "native" and self.device == "cuda":
            raise ValueError(
                "--engine native computes on the CPU, and --device cuda asks for the GPU; drop one of them"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("--tls-certificate and --tls-key belong together; give both, or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError(
                "--tls-client-ca needs --tls-certificate and --tls-key: without TLS no client shows its own"
            )
        if self.max_unread_mib < self.max_message_mib:
            raise ValueError(
                f"--max-unread-mib is {self.max_unread_mib}, and must hold one message ({self.max_message_mib}, "
                "--max-message-mib)"
            )
        if self.load_model and self.model_control != "explicit":
            raise ValueError("--load-model needs --model-control explicit: otherwise all models are loaded")
        if self.max_inflight_per_client is not None and self.max_inflight_per_client > self.max_inflight_requests:
            raise ValueError(
                f"--max-inflight-per-client is {self.max_inflight_per_client}, and all clients together may have "
                f"{self.max_inflight_requests} (--max-inflight-requests)"
            )
        return self
