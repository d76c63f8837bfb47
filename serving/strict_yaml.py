"""YAML as people mean it: of a key that is there twice, neither value is the right one."""

from collections.abc import Hashable
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002  yaml's
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def load_yaml(text: str) -> Any:  # noqa: ANN401  whatever the text holds
    """Return what the text holds, of YAML's own types.

    Raises:
        yaml.YAMLError: it is not YAML, or has a key twice, which YAML forbids (1.2.2, section 3.2.1.1) and of which the
            library takes the last.
    """
    return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
