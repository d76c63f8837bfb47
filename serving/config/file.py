"""Settings in a YAML file, by their fields' names: `grpc_port: 9001`."""

from pathlib import Path
from typing import Any

import yaml

from serving.config.names import nearest
from serving.config.settings import ServerConfig
from serving.strict_yaml import load_yaml


def read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read settings from a YAML file.

    Returns:
        values by field, as YAML types them; and what is wrong with the file, a line each.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        return {}, [f"{path}: cannot be read ({error.strerror})"]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return {}, [f"{path}: not valid YAML: {' '.join(str(error).split())}"]
    if content is None:
        return {}, []
    if not isinstance(content, dict):
        return {}, [f"{path}: holds a {type(content).__name__}; settings are lines like 'grpc_port: 9001'"]
    known = set(ServerConfig.model_fields) - {"config"}
    problems = [
        f"{path}: {key}: no such setting{nearest(str(key), known)}" for key in content if key not in known
    ]  # fmt: skip
    problems += [
        f"{path}: {key}: is {value}, and takes no yes or no"
        for key, value in content.items()
        if key in known and isinstance(value, bool) and ServerConfig.model_fields[key].annotation is not bool
    ]
    return {key: value for key, value in content.items() if key in known}, problems
