"""What `forward` returns, whatever its form, as named tensors."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from export.errors import ExportError
from export.spec import RESERVED


def name_outputs(answer: object, names: Sequence[str] | None) -> dict[str, Tensor]:
    """Return the tensors in an answer, in order, by name.

    A tensor alone is `output`; those of tuples and lists, however nested, are `output_0`, `output_1`...; those of dicts
    have their keys. `names` overrides all of them.

    Raises:
        ExportError: something in the answer is no tensor, the number of names is another, or names repeat.
    """
    leaves = list(_leaves(answer, None))
    if names is None:
        alone = len(leaves) == 1
        names = [key or ("output" if alone else f"output_{index}") for index, (key, _) in enumerate(leaves)]
    if len(names) != len(leaves):
        raise ExportError(
            f"forward returns {len(leaves)} tensors, and {len(names)} output names were given: {list(names)}"
        )
    if len(set(names)) != len(names) or RESERVED & set(names):
        raise ExportError(f"output names must differ and not be one of {sorted(RESERVED)}, got {list(names)}")
    return {name: tensor for name, (_, tensor) in zip(names, leaves, strict=True)}


def _leaves(answer: object, key: str | None) -> Iterator[tuple[str | None, Tensor]]:
    if isinstance(answer, Tensor):
        yield key, answer
    elif isinstance(answer, Mapping):
        for name, value in answer.items():
            yield from _leaves(value, str(name))
    elif isinstance(answer, (tuple, list)):
        for index, value in enumerate(answer):
            yield from _leaves(value, None if key is None else f"{key}_{index}")
    else:
        raise ExportError(
            f"forward returns a {type(answer).__name__}{f' under {key!r}' if key else ''}; expected tensors, alone or "
            "in tuples, lists and dicts (pad_packed_sequence makes one of a packed sequence)"
        )
