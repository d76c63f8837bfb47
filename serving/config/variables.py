"""Settings in the environment, and the variables there that look like settings and are none."""

import os
import re
from typing import Any

from pydantic_settings import EnvSettingsSource

from serving.config.names import nearest
from serving.config.settings import ENVIRONMENT_PREFIX, ServerConfig

OTHERS = {"LSTM_SERVE_TOKEN"}
"""Read by `lstm-serve status`."""

# Kubernetes describes every service of the namespace to every pod (Kubernetes docs, "Accessing the Service"), and one
# called lstm-serve, or lstm-serve-metrics, gets names like ours: LSTM_SERVE_METRICS_PORT=tcp://10.0.0.7:8002.
SERVICE_NAMES = re.compile(
    r"(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")


def variable_name(field: str) -> str:
    """Name the variable that sets the field: `grpc_port` is `LSTM_SERVE_GRPC_PORT`."""
    return ENVIRONMENT_PREFIX + field.upper()


def variable_values() -> dict[str, Any]:
    """Read the variables that are set, as text, by field."""
    values: dict[str, Any] = EnvSettingsSource(ServerConfig)()
    return {field: value for field, value in values.items() if not _describes_a_service(variable_name(field), value)}


def unknown_variables() -> list[str]:
    """Describe, a line each, the variables with our prefix that no setting reads."""
    fields = [field.upper() for field in ServerConfig.model_fields]
    problems = []
    for name, value in sorted(os.environ.items()):
        prefix, setting = name[: len(ENVIRONMENT_PREFIX)].upper(), name[len(ENVIRONMENT_PREFIX) :].upper()
        known = prefix + setting in OTHERS or setting in fields
        if prefix == ENVIRONMENT_PREFIX and not known and not _describes_a_service(name, value):
            problems.append(f"{name}: no such setting{nearest(setting, fields, prefix=prefix)}; unset it")
    return problems


def _describes_a_service(name: str, value: str) -> bool:
    suffix = name.upper().removeprefix(ENVIRONMENT_PREFIX)
    if SERVICE_NAMES.fullmatch(suffix):
        return True
    return suffix.endswith("PORT") and SERVICE_ADDRESS.match(value) is not None
