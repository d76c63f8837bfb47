"""Write the table in `docs/configuration.md` from the settings' own descriptions."""

from pathlib import Path
from typing import Any

from serving.config import ServerConfig
from serving.config.flags import flag_name

PAGE = Path(__file__).resolve().parent.parent / "docs/configuration.md"

BEGIN = "<!-- The table is written by scripts/generate_configuration.py: make docs -->\n"
END = "\n<!-- end of the table -->"
HEAD = "| flag | value | default | meaning |\n| --- | --- | --- | --- |\n"
KINDS = {"integer": "whole number", "number": "number", "boolean": "yes or no", "array": "names"}


def page(now: str) -> str:
    """Return the page's text with the table written anew: a row for each setting, in their order."""
    before, begin, rest = now.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{PAGE}: the comments before and after the table are missing"
    return before + begin + HEAD + "".join(_row(name) for name in ServerConfig.model_fields) + end + after


def _row(name: str) -> str:
    field, schema = ServerConfig.model_fields[name], ServerConfig.model_json_schema()["properties"][name]
    if field.is_required():
        default = "required"
    elif field.default in (None, []):
        default = "none"
    elif isinstance(field.default, bool):
        default = "yes" if field.default else "no"
    else:
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
    meaning = (field.description or "").replace("<", "&lt;")
    return f"| `{flag_name(name)}` | {_value(schema)} | {default} | {meaning} |\n"


def _value(schema: dict[str, Any]) -> str:
    schema = next((each for each in schema.get("anyOf", []) if each.get("type") != "null"), schema)
    if "enum" in schema:
        return ", ".join(schema["enum"])
    kind = {"path": "path", "uri": "URL"}.get(schema.get("format", ""), KINDS.get(schema["type"], "text"))
    low, above, high = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if low is not None and high is not None:
        return f"{kind}, {low:g} to {high:g}"
    if low is not None:
        return f"{kind}, at least {low:g}"
    return kind if above is None else f"{kind}, above {above:g}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
