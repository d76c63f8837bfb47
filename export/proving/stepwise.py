"""Running sequences in chunks with carried state, as the server's stepwise policy does."""

from collections.abc import Sequence

import numpy as np

from export.runtime import Answer, Array, Row, Runtime


def answer_in_chunks(runtime: Runtime, rows: Sequence[Row], *, chunk: int) -> list[Answer]:
    """Return each row's answer when all rows go through the graph together, `chunk` steps at a time.

    Rows that are done leave the batch. Outputs that follow time are joined; the others are those of the last chunk.

    Args:
        runtime: of a model with state.
        rows: of any lengths.
        chunk: steps per run; a row's last chunk may be shorter.
    """
    model = runtime.model
    assert model.state is not None
    states = np.zeros((len(rows), model.state.size), np.float32)
    parts: list[list[Answer]] = [[] for _ in rows]
    done = 0
    while live := [i for i, row in enumerate(rows) if row.steps > done]:
        pieces = [rows[i].part(done, done + chunk, model.inputs) for i in live]
        outputs = runtime.run(runtime.feed(pieces) | {model.state.input: states[live]})
        states[live] = outputs[model.state.output]
        for i, answer in zip(live, runtime.split(outputs, pieces), strict=True):
            parts[i].append(answer)
        done += chunk
    return [_join(runtime, chunks) for chunks in parts]


def _join(runtime: Runtime, chunks: list[Answer]) -> Answer:
    joined: dict[str, Array] = {}
    for tensor in runtime.model.outputs:
        arrays = [chunk[tensor.name] for chunk in chunks]
        joined[tensor.name] = np.concatenate(arrays) if tensor.follows_time else arrays[-1]
    return joined
