"""The server's settings: flags before variables (`LSTM_SERVE_...`) before a YAML file. Nothing else reads the three.

What is unknown, empty or impossible is an error that names the flag, the variable or the file and its key.
"""

from serving.config.flags import parse
from serving.config.settings import ServerConfig
from serving.config.shown import as_yaml
from serving.config.sources import Settings, read_settings

__all__ = ["ServerConfig", "Settings", "as_yaml", "parse", "read_settings"]
