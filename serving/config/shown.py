"""The settings as a YAML file that can be given to `--config`, with the origin of each as a comment."""

import json

import yaml

from serving.config.sources import Settings


def as_yaml(settings: Settings) -> str:
    """Return one line for each setting, in their order; those that are not set are comments.

    Read as a file, this gives the same settings again. Paths stay as they were given.
    """
    lines = []
    for field, value in json.loads(settings.config.model_dump_json(exclude={"config"})).items():
        if value is None:
            lines.append(f"# {field}: not set")
        else:
            readable = str(value).isprintable()  # PyYAML writes U+0085 as it is, and reads it as a line's end
            text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=readable)
            text = text.removesuffix("\n").removesuffix("\n...")
            lines.append(f"{field}: {text}  # {settings.origins.get(field, 'default')}")
    return "\n".join(lines) + "\n"
