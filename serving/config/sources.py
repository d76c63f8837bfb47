"""Settings are collected: flags win over variables, and these over the file; and it is kept where each came from."""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from serving.config.file import read_file
from serving.config.flags import flag_name, flag_values
from serving.config.settings import ServerConfig
from serving.config.variables import unknown_variables, variable_name, variable_values
from serving.errors import ConfigError

FLAG = re.compile(r"--[a-z][a-z-]*")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server runs with.

    Attributes:
        config: the values, checked.
        origins: of each field that has not its default, the name under which it was given: `--grpc-port`,
            `LSTM_SERVE_GRPC_PORT` or `serve.yaml: grpc_port`.
    """

    config: ServerConfig
    origins: Mapping[str, str]


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Collect the settings from the parsed command line, the environment, and the file that one of these names.

    Args:
        arguments: what `serving.config.flags.parse` made of the command line.

    Raises:
        ConfigError: all that is wrong with them, a line each.
    """
    problems = unknown_variables()
    flags, variables = flag_values(arguments), variable_values()
    path = flags.get("config", variables.get("config"))
    content, mistakes = read_file(Path(path)) if path else ({}, [])
    problems += mistakes

    values: dict[str, Any] = {**content, **variables, **flags}
    origins = {
        **{field: f"{path}: {field}" for field in content},
        **{field: variable_name(field) for field in variables},
        **{field: flag_name(field) for field in flags},
    }
    # Not the same as leaving it out: an empty --tokens is a template that was not filled in, not a wish for none.
    empty = [field for field, value in values.items() if value is None or value == ""]
    problems += [f"{origins.pop(field)}: is empty; give a value, or leave it out" for field in empty]
    try:
        config = ServerConfig(**{field: value for field, value in values.items() if field in origins})
    except ValidationError as error:
        problems += [
            _describe(each["loc"], each["msg"], each["input"], origins)
            for each in error.errors()
            if not set(each["loc"]) & set(empty)
        ]
    if problems:
        raise ConfigError("\n".join(problems))
    return Settings(config, origins)


def _describe(location: tuple[int | str, ...], message: str, value: object, origins: Mapping[str, str]) -> str:
    """Say what is wrong with a value, or with several together, by the names under which they were given."""
    if not location:
        text = message.removeprefix("Value error, ")
        return FLAG.sub(lambda flag: origins.get(flag[0][2:].replace("-", "_"), flag[0]), text)
    field = str(location[0])
    if field not in origins:
        return f"{flag_name(field)}: is needed, or {variable_name(field)}, or {field} in the file of --config"
    return f"{origins[field]}: {message} (got {value!r})"
