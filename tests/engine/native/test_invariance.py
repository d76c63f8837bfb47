"""What an answer does not depend on: company, padding, threads, chunks, the processor's instructions. All bit for bit."""

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.engine.native.library import RecurrentLayer, instruction_sets
from serving.engine.native.weights import FloatLayer
from tests.engine.native.exact import open_layers, random_layer

Array = np.ndarray[Any, Any]
MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LAYERS = st.builds(
    lambda kind, direction, inputs, hidden, seed: random_layer(seed, kind[0], direction, inputs, hidden, **kind[1]),
    st.sampled_from(
        [
            ("LSTM", {}),
            ("LSTM", {"peephole": True}),
            ("GRU", {}),
            ("GRU", {"linear_before_reset": True}),
            ("RNN", {}),
            ("RNN", {"relu": True}),
        ]
    ),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.integers(1, 40),
    st.integers(1, 70),
    st.integers(0, 2**32 - 1),
)


def batch_of(layer: FloatLayer, seed: int, rows: int, time: int) -> dict[str, Array]:
    """Return a batch of mixed lengths with states and padding that is not zero."""
    random = np.random.default_rng(seed)
    directions = len(layer.w)
    return {
        "x": (random.normal(size=(time, rows, layer.input)) * 10 ** random.uniform(-3, 3, (1, rows, 1))).astype(
            np.float32
        ),
        "lengths": random.integers(1, time + 1, rows).astype(np.int32),
        "initial_h": random.uniform(-1, 1, (directions, rows, layer.hidden)).astype(np.float32),
        "initial_c": random.normal(size=(directions, rows, layer.hidden)).astype(np.float32),
    }


def part_of(batch: dict[str, Array], rows: Array, time: int) -> dict[str, Array]:
    """Return some rows, cut or padded to `time`."""
    x = np.full((time, len(rows), batch["x"].shape[2]), 1e4, np.float32)
    steps = min(time, len(batch["x"]))
    x[:steps] = batch["x"][:steps, rows]
    states = {name: batch[name][:, rows] for name in ("initial_h", "initial_c")}
    return {"x": x, "lengths": batch["lengths"][rows], **states}


def assert_same(found: tuple[Array, ...], batch: tuple[Array, ...], rows: Array, lengths: Array) -> None:
    for place, row in enumerate(rows):
        length = lengths[row]
        np.testing.assert_array_equal(found[0][:length, :, place], batch[0][:length, :, row])
        assert not found[0][length:, :, place].any()
        for mine, theirs in zip(found[1:], batch[1:], strict=True):
            np.testing.assert_array_equal(mine[:, place], theirs[:, row])


@MANY
@given(layer=LAYERS, rows=st.integers(1, 19), time=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_company_padding_and_threads_change_no_bit(
    tmp_path: Path, layer: FloatLayer, rows: int, time: int, seed: int
) -> None:
    weights = open_layers(tmp_path, [layer])
    batch = batch_of(layer, seed, rows, time)
    together = RecurrentLayer(weights, 0, threads=1).run(**batch)
    random = np.random.default_rng(seed)
    for threads in (1, 2, 5):
        chosen = random.permutation(rows)[: random.integers(1, rows + 1)]
        longest = int(batch["lengths"][chosen].max())
        part = part_of(batch, chosen, longest + int(random.integers(0, 4)))
        found = RecurrentLayer(weights, 0, threads=threads).run(**part)
        assert_same(found, together, chosen, batch["lengths"])


@MANY
@given(layer=LAYERS, rows=st.integers(1, 9), time=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_all_instruction_sets_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: FloatLayer, rows: int, time: int, seed: int
) -> None:
    batch = batch_of(layer, seed, rows, time)
    answers = []
    for name in instruction_sets():
        monkeypatch.setenv("LSTM_NATIVE_ISA", name)
        weights = open_layers(tmp_path, [layer])
        assert weights.instruction_set == name
        answers.append(RecurrentLayer(weights, 0, threads=1).run(**batch))
    for answer in answers[1:]:
        for found, first in zip(answer, answers[0], strict=True):
            np.testing.assert_array_equal(found, first)


@MANY
@given(
    layer=LAYERS.filter(lambda layer: layer.direction == "forward"),
    cuts=st.lists(st.integers(1, 30), max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_chunks_with_carried_state_are_the_whole_run(
    tmp_path: Path, layer: FloatLayer, cuts: list[int], seed: int
) -> None:
    time = 31
    batch = batch_of(layer, seed, 5, time)
    run = RecurrentLayer(open_layers(tmp_path, [layer]), 0, threads=1).run
    whole = run(batch["x"], None, batch["initial_h"], batch["initial_c"])
    state, parts = (batch["initial_h"], batch["initial_c"]), []
    edges = [0, *sorted(set(cuts)), time]
    for start, stop in itertools.pairwise(edges):
        y, *after = run(batch["x"][start:stop], None, state[0], state[1])
        parts.append(y)
        state = (after[0], after[1] if layer.operator == "LSTM" else batch["initial_c"])
    np.testing.assert_array_equal(np.concatenate(parts), whole[0])
    np.testing.assert_array_equal(state[0], whole[1])


def test_a_transposed_batch_first_array_is_read_in_place(tmp_path: Path) -> None:
    layer = random_layer(1, "LSTM", "bidirectional", 7, 9)
    run = RecurrentLayer(open_layers(tmp_path, [layer]), 0, threads=1).run
    batch_first = np.random.default_rng(2).normal(size=(4, 12, 7)).astype(np.float32)
    view = batch_first.transpose(1, 0, 2)
    y, y_h, y_c = run(view)
    for found, expected in zip((y, y_h, y_c), run(np.ascontiguousarray(view)), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert y.transpose(2, 0, 1, 3).flags.c_contiguous


def test_many_threads_may_call_one_layer(tmp_path: Path) -> None:
    layer = random_layer(1, "GRU", "bidirectional", 12, 20)
    run = RecurrentLayer(open_layers(tmp_path, [layer]), 0, threads=3).run
    batches = [batch_of(layer, seed, 1 + seed % 9, 15) for seed in range(24)]
    expected = [run(**batch) for batch in batches]
    wrong: list[int] = []

    def call(first: int) -> None:
        for turn in range(60):
            number = (first + turn) % len(batches)
            found = run(**batches[number])
            if not all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected[number], strict=True)):
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
