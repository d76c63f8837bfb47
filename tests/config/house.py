"""Settings are read here as the program reads them, in an environment of the test's own."""

from unittest.mock import patch

import pytest

from serving.config import Settings, parse, read_settings
from serving.errors import ConfigError


def settings_of(*arguments: str, **variables: str) -> Settings:
    """Read the settings from these arguments and variables."""
    with patch.dict("os.environ", variables, clear=True):
        return read_settings(parse(arguments))


def problems_of(*arguments: str, **variables: str) -> list[str]:
    """Read settings that are wrong, and return what is said about them."""
    with pytest.raises(ConfigError) as refused:
        settings_of(*arguments, **variables)
    return str(refused.value).splitlines()
