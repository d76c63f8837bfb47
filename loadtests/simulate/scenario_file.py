"""A scenario that somebody wrote: YAML of a `Scenario`'s parts, with a measured model's name in the place of costs."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from loadtests.simulate.costs import Measured
from loadtests.simulate.scenario import Scenario
from serving.manifest import first_problem
from serving.strict_yaml import load_yaml


def read_scenario(path: Path, measured: Measured) -> Scenario:
    """Read a file: `model` or `cost`, `seconds`, `traffic`, `replicas`, and what else a `Scenario` has.

    Raises:
        ValueError: it cannot be read, is not YAML, has an unknown key, or describes what cannot be; the message says
            where and why.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); expected a YAML file of a scenario") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict) or ("model" in content) == ("cost" in content):
        raise ValueError(f"{path}: expected a mapping with either `model` or `cost`; models are {_names(measured)}")
    if "model" in content:
        name = content.pop("model")
        if name not in measured.models:
            raise ValueError(f"{path}: model {name!r} has no measured costs; models are {_names(measured)}")
        content["cost"] = measured.models[name].model_dump()
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_problem(error)}") from error


def _names(measured: Measured) -> str:
    return ", ".join(measured.models)
