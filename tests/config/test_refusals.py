"""What cannot be meant is refused, by the name under which it was given, and with what to do."""

from pathlib import Path

import pytest

from tests.config.house import problems_of, settings_of

REPOSITORY = "--model-repository=m"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--grpc-port=70000"], "--grpc-port: Input should be less than or equal to 65535 (got '70000')"),
        (["--grpc-port", "http"], "--grpc-port: Input should be a valid integer"),
        (["--threads", "0"], "--threads: Input should be greater"),
        (["--threads", "not set"], "--threads: Input should be a valid integer"),
        (["--device", "tpu"], "--device: Input should be 'auto', 'cpu' or 'cuda' (got 'tpu')"),
        (["--engine", "tpu"], "--engine: Input should be"),
        (["--log-format", "xml"], "--log-format: Input should be"),
        (["--tracing-endpoint", "collector:4318"], "--tracing-endpoint: URL"),
        (["--tracing-sample-ratio", "2"], "--tracing-sample-ratio: Input should be less"),
        (["--poll-seconds", "inf"], "--poll-seconds: Input should be a finite number"),
        (["--drain-delay-seconds", "nan"], "--drain-delay-seconds: Input should be a finite number"),
        (["--load-model", "a,,b", "--model-control=explicit"], "--load-model: String should have at least 1 character"),
        (["--load-model", "[a", "--model-control=explicit"], "--load-model: "),
        (["--load-model=a"], "--load-model needs --model-control explicit"),
        (["--grpc-port=9", "--metrics-port=9"], "--grpc-port and --metrics-port are both 9"),
        (["--grpc-port=8002"], "--grpc-port and --metrics-port are both 8002"),
        (["--engine=native", "--device=cuda"], "--engine native computes on the CPU"),
        (["--tls-key=k"], "--tls-certificate and --tls-key belong together"),
        (["--tls-client-ca=k"], "--tls-client-ca needs --tls-certificate"),
        (["--max-unread-mib=9", "--max-message-mib=10"], "--max-unread-mib is 9, and must hold one message (10, "),
        (["--max-inflight-per-client=9", "--max-inflight-requests=8"], "--max-inflight-per-client is 9, and all"),
        (["--tokens="], "--tokens: is empty; give a value, or leave it out"),
        (["--model-repository="], "--model-repository: is empty; give a value, or leave it out"),
    ],
)
def test_a_flag_that_cannot_be_meant(arguments: list[str], problem: str) -> None:
    (said,) = problems_of(REPOSITORY, *arguments)

    assert said.startswith(problem)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"LSTM_SERVE_GRPC_PORT": "70000"}, "LSTM_SERVE_GRPC_PORT: Input should be less"),
        ({"LSTM_SERVE_TOKENS": ""}, "LSTM_SERVE_TOKENS: is empty; give a value, or leave it out"),
        ({"LSTM_SERVE_CONFIG": ""}, "LSTM_SERVE_CONFIG: is empty"),
        ({"LSTM_SERVE_HSOT": "::"}, "LSTM_SERVE_HSOT: no such setting, did you mean LSTM_SERVE_HOST?; unset it"),
        ({"lstm_serve_hsot": "::"}, "lstm_serve_hsot: no such setting, did you mean LSTM_SERVE_HOST?; unset it"),
        ({"LSTM_SERVE_PORT": "8001"}, "LSTM_SERVE_PORT: no such setting"),
        ({"LSTM_SERVE_METRICS_PORT": "http://a:1"}, "LSTM_SERVE_METRICS_PORT: Input should be a valid integer"),
        ({"LSTM_SERVE_COLOUR_OF_THE_WALL": "red"}, "LSTM_SERVE_COLOUR_OF_THE_WALL: no such setting; unset it"),
        ({"LSTM_SERVE_METRICS_PORT": "8001"}, "--grpc-port and LSTM_SERVE_METRICS_PORT are both 8001"),
        ({"LSTM_SERVE_LOAD_MODEL": '["a"'}, "LSTM_SERVE_LOAD_MODEL: Value error, begins like a list in JSON"),
        ({"LSTM_SERVE_LOAD_MODEL": '["a"]'}, "LSTM_SERVE_LOAD_MODEL needs --model-control explicit"),
        ({"LSTM_SERVE_CONFIG": "/nowhere.yaml"}, "/nowhere.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_a_variable_that_cannot_be_meant(variables: dict[str, str], problem: str) -> None:
    (said,) = problems_of(REPOSITORY, **variables)

    assert said.startswith(problem)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"grpc_port: 70000", "grpc_port: Input should be less"),
        (b"grpc-port: 7000", "grpc-port: no such setting, did you mean grpc_port?"),
        (b"7: 7000", "7: no such setting"),
        (b"config: other.yaml", "config: no such setting"),
        (b"tokens:", "tokens: is empty; give a value, or leave it out"),
        (b"host: ''", "host: is empty"),
        (b"host: [a]", "host: Input should be a valid string"),
        (b"max_streams: yes", "max_streams: is True, and takes no yes or no"),
        (b"host: a\nhost: b", "not valid YAML: 'host' is there twice in"),
        (b"grpc_port: 8002", "grpc_port and --metrics-port are both 8002"),
        (b"- grpc_port", "holds a list; settings are lines like 'grpc_port: 9001'"),
        (b"grpc_port", "holds a str; settings"),
        (b"a: [", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"host: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"? [a, b]\n: 1", "not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_meant(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_bytes(content)

    (said,) = problems_of(REPOSITORY, "--config", str(file))

    assert said.startswith(f"{file}: {problem}")


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("threads: none\nhsot: local\ntokens:\n")

    said = problems_of(
        f"--config={file}",
        "--grpc-port=x",
        "--host=",
        LSTM_SERVE_DEVICE="tpu",
        LSTM_SERVE_HSOT="1",
        LSTM_SERVE_TLS_KEY="",
    )

    assert len(said) == 9
    for begin in (
        "LSTM_SERVE_HSOT: ", f"{file}: hsot: ", f"{file}: tokens: ", "--host: ", "LSTM_SERVE_TLS_KEY: ",
        "--model-repository: is needed, or LSTM_SERVE_MODEL_REPOSITORY, or model_repository in the file of --config",
        f"{file}: threads: ", "--grpc-port: ", "LSTM_SERVE_DEVICE: ",
    ):  # fmt: skip
        assert sum(line.startswith(begin) for line in said) == 1, begin


def test_an_empty_file_has_no_settings(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("# nothing yet\n")

    assert settings_of(REPOSITORY, f"--config={file}").origins.keys() == {"config", "model_repository"}
