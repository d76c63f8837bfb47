"""Flags come before variables, variables before the file; the effective settings can be printed and read again."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.config import ServerConfig, as_yaml
from serving.config.flags import flag_name
from serving.config.variables import variable_name
from tests.config.house import settings_of

TEXT = st.text(
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
).filter(
    lambda text: text != "--"  # argparse before Python 3.13 drops it from --host=--
)
NUMBERS = st.integers(min_value=512, max_value=1024)
SOURCES = st.sets(st.sampled_from(["file", "variable", "flag"]))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "host": TEXT,
    "grpc_port": NUMBERS,
    "metrics_port": st.integers(min_value=2000, max_value=65535),
    "engine": st.sampled_from(["auto", "native", "onnxruntime"]),
    "threads": NUMBERS,
    "max_inflight_requests": NUMBERS,
    "max_message_mib": st.integers(min_value=1, max_value=512),
    "max_connection_age_seconds": st.floats(min_value=0, max_value=1e9),
    "max_unread_mib": NUMBERS,
    "tokens": TEXT,
    "log_level": st.sampled_from(["debug", "error"]),
    "tracing_endpoint": st.sampled_from(["http://collector:4318", "https://10.0.0.1/v1/traces?a=b#c"]),
}


@st.composite
def given_values(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Draw for each source the fields that it sets, and to what."""
    drawn: dict[str, dict[str, Any]] = {"file": {}, "variable": {}, "flag": {}}
    for field, values in VALUES.items():
        for source in draw(SOURCES):
            drawn[source][field] = draw(values)
    return drawn


@settings(deadline=None)  # it reads and writes files
@given(given_values())
def test_the_first_source_that_has_a_setting_decides(drawn: dict[str, dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "serve.yaml")
        file.write_text(yaml.safe_dump({"model_repository": "models", **drawn["file"]}), encoding="utf-8")
        found = settings_of(
            f"--config={file}",
            *(f"{flag_name(field)}={value}" for field, value in drawn["flag"].items()),
            **{variable_name(field): str(value) for field, value in drawn["variable"].items()},
        )

        expected = {**drawn["file"], **drawn["variable"], **drawn["flag"]}
        assert found.config == ServerConfig(model_repository="models", config=file, **expected)
        for field in VALUES:
            if field in drawn["flag"]:
                assert found.origins[field] == flag_name(field)
            elif field in drawn["variable"]:
                assert found.origins[field] == variable_name(field)
            elif field in drawn["file"]:
                assert found.origins[field] == f"{file}: {field}"
            else:
                assert field not in found.origins

        file.write_text(as_yaml(found), encoding="utf-8")
        assert settings_of("--config", str(file)).config == found.config


@pytest.mark.parametrize("text", ["a,b", " a , b ", '["a", "b"]'])
def test_names_in_a_variable_are_a_list(text: str) -> None:
    found = settings_of("--model-repository=m", "--model-control=explicit", LSTM_SERVE_LOAD_MODEL=text)

    assert found.config.load_model == ["a", "b"]


@pytest.mark.parametrize("content", ["[a, b]", "a,b", "\n  - a\n  - b"])
def test_names_in_the_file_are_a_list(tmp_path: Path, content: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(f"model_repository: m\nmodel_control: explicit\nload_model: {content}")

    assert settings_of("--config", str(file)).config.load_model == ["a", "b"]


def test_names_as_flags_are_a_list() -> None:
    found = settings_of("--model-repository=m", "--model-control=explicit", "--load-model=a,b", "--load-model", "c")

    assert found.config.load_model == ["a", "b", "c"]


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("model_repository: m\nreflection: no\n")

    assert settings_of(LSTM_SERVE_CONFIG=str(file)).config == ServerConfig(
        config=file, model_repository="m", reflection=False
    )


def test_what_kubernetes_tells_about_services_is_no_setting() -> None:
    """A pod whose namespace has services called lstm-serve and lstm-serve-metrics is told of them in our names."""
    services = {
        "LSTM_SERVE_SERVICE_HOST": "10.0.0.7",
        "LSTM_SERVE_SERVICE_PORT": "8001",
        "LSTM_SERVE_SERVICE_PORT_GRPC": "8001",
        "LSTM_SERVE_PORT": "tcp://10.0.0.7:8001",
        "LSTM_SERVE_PORT_8001_TCP": "tcp://10.0.0.7:8001",
        "LSTM_SERVE_PORT_8001_TCP_PROTO": "tcp",
        "LSTM_SERVE_PORT_8001_TCP_PORT": "8001",
        "LSTM_SERVE_PORT_8001_TCP_ADDR": "10.0.0.7",
        "LSTM_SERVE_METRICS_SERVICE_HOST": "10.0.0.8",
        "LSTM_SERVE_METRICS_PORT": "tcp://10.0.0.8:8002",
        "LSTM_SERVE_METRICS_PORT_8002_TCP": "tcp://10.0.0.8:8002",
    }

    assert settings_of("--model-repository=m", **services).config == ServerConfig(model_repository="m")


def test_the_token_of_those_who_look_at_the_server_is_no_setting() -> None:
    variables = {"LSTM_SERVE_TOKEN": "secret"}

    assert settings_of("--model-repository=m", **variables).config == ServerConfig(model_repository="m")
