"""The C++ library as Python sees it: packed weights and layers that run on them.

Calls go through ctypes, which lets go of the interpreter's lock while they compute.
"""

import ctypes
import functools
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import ArtifactError, EngineUnavailable

Floats = NDArray[np.float32]
LIBRARY = Path(__file__).parent / "liblstm_native.so"
OK, NO_MEMORY = 0, -1
"""Results of the library; above zero is one more than the row that met NaN or infinity."""
FLOAT32, INT32 = np.dtype(np.float32), np.dtype(np.int32)
LSTM = 0
MESSAGE_BYTES = 256


class _Layer(ctypes.Structure):
    kind: int
    gates: int
    inputs: int
    hidden: int
    directions: int
    blocks: int
    _fields_ = [(name, ctypes.c_int32) for name in ("kind", "gates", "inputs", "hidden", "directions", "blocks")]


@functools.cache
def load_library() -> ctypes.CDLL:
    """Return the library.

    Raises:
        EngineUnavailable: it was not built, or does not load here.
    """
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise EngineUnavailable(
            f"the native INT8 engine is not there ({error}); it is built when lstm-serving is installed with a C++17 "
            "compiler at hand: apt-get install g++, then install the package again"
        ) from error
    handle, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    int32, int64 = ctypes.c_int32, ctypes.c_int64
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "open": (handle, [handle, size, text, size]),
        "close": (None, [handle]),
        "layers": (int32, [handle]),
        "describe": (None, [handle, int32, ctypes.POINTER(_Layer)]),
        "isa": (text, [handle]),
        "run": (int32, [handle, int32, int32, int64, int64, handle, int64, int64, *[handle] * 6]),
        "isas": (None, [text, size]),
        "sums": (int32, [handle, int32, int32, int32, handle, int32, handle, handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"lstm_native_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def instruction_sets() -> list[str]:
    """Return the names of the instruction sets that the library has kernels for and this processor knows, best first.

    The environment variable `LSTM_NATIVE_ISA` chooses one of them for the weights that are opened after it was set.
    """
    names = ctypes.create_string_buffer(MESSAGE_BYTES)
    load_library().lstm_native_isas(names, MESSAGE_BYTES)
    return names.value.decode().split(",")


class Weights:
    """A `weights.bin`, mapped into memory: all layers and instances that use it share its pages."""

    def __init__(self, path: Path) -> None:
        """Map and check the file.

        Raises:
            EngineUnavailable: the library is not there, or `LSTM_NATIVE_ISA` names what this processor cannot run.
            ArtifactError: the file cannot be read or is damaged.
        """
        self._library = load_library()
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise ArtifactError(f"{path}: cannot be mapped ({error}); quantize the model again") from error
        self._bytes = np.frombuffer(self._map, np.uint8)
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        self.handle = self._library.lstm_native_open(self._bytes.ctypes.data, len(self._bytes), message, MESSAGE_BYTES)
        if not self.handle:
            problem = message.value.decode()
            if "LSTM_NATIVE_ISA" in problem:
                raise EngineUnavailable(f"{problem}: {instruction_sets()}")
            raise ArtifactError(f"{path}: {problem}; quantize the model again")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.lstm_native_close(self.handle)

    @property
    def layers(self) -> int:
        """How many layers the file holds."""
        return int(self._library.lstm_native_layers(self.handle))

    @property
    def instruction_set(self) -> str:
        """The instruction set that its layers compute with."""
        return str(self._library.lstm_native_isa(self.handle).decode())

    def describe(self, index: int) -> _Layer:
        """Return a layer's sizes."""
        if not 0 <= index < self.layers:
            raise ArtifactError(f"the weights' file has {self.layers} layers, the plan asks for layer {index}")
        layer = _Layer()
        self._library.lstm_native_describe(self.handle, index, ctypes.byref(layer))
        return layer

    def sums(self, index: int, direction: int, matrix: int, x: Floats) -> tuple[Floats, Floats]:
        """Return what the kernels add up before scaling, for tests.

        Args:
            index: of the layer.
            direction: 0 or 1.
            matrix: 0 for the input's weights, 1 for the recurrent ones.
            x: float32[rows, columns].

        Returns:
            Exact integers as float32[rows, blocks, gates, 16], and the scale of each row, float32[rows].
        """
        layer = self.describe(index)
        x = np.ascontiguousarray(x, np.float32)
        sums = np.empty((len(x), layer.blocks, layer.gates, 16), np.float32)
        scales = np.empty(len(x), np.float32)
        arrays = (x.ctypes.data, len(x), sums.ctypes.data, scales.ctypes.data)
        if self._library.lstm_native_sums(self.handle, index, direction, matrix, *arrays) != OK:
            raise ValueError(f"layer {index} has no direction {direction}, or there are no rows")
        return sums, scales


class RecurrentLayer:
    """One recurrent operator. May be called from several threads at once."""

    def __init__(self, weights: Weights, index: int, *, threads: int) -> None:
        """Use a layer of the weights.

        Args:
            weights: mapped; kept alive.
            index: of the layer.
            threads: that a call may use; the answer does not depend on it.

        Raises:
            ArtifactError: there is no such layer.
        """
        self._weights = weights
        self._index = index
        self._threads = threads
        self._layer = weights.describe(index)
        self._call = load_library().lstm_native_run

    def run(
        self,
        x: Floats,
        lengths: NDArray[np.int32] | None = None,
        initial_h: Floats | None = None,
        initial_c: Floats | None = None,
    ) -> tuple[Floats, Floats, Floats]:
        """Compute what the ONNX operator of the same kind does, with INT8 weights.

        Args:
            x: float32[time, batch, input] of any strides, if its last axis is contiguous.
            lengths: int32[batch], 1 to time; None if all rows have `time` steps.
            initial_h: float32[directions, batch, hidden]; None for zeros.
            initial_c: the same, of an LSTM.

        Returns:
            y, float32[time, directions, batch, hidden], zero beyond a row's length: a view of memory in the order
            batch, time, directions, hidden; y_h and y_c, float32[directions, batch, hidden] (y_c of an LSTM only, else
            empty).

        Raises:
            ValueError: shapes or types do not fit.
            FloatingPointError: NaN or infinity in a row; the message names it.
            MemoryError: no room for the call's buffers.
        """
        layer = self._layer
        x = _rows_of_floats(x, layer.inputs)
        time, batch, _ = x.shape
        states = (layer.directions, batch, layer.hidden)
        lengths = _contiguous(lengths, INT32, (batch,))
        initial_h, initial_c = _contiguous(initial_h, FLOAT32, states), _contiguous(initial_c, FLOAT32, states)
        lstm = layer.kind == LSTM
        of_state = layer.directions * batch * layer.hidden
        of_y = time * of_state
        out = np.empty(of_y + (1 + lstm) * of_state, np.float32)  # in one, because an address takes long to find
        y = ctypes.addressof(ctypes.c_float.from_buffer(out.data))
        y_h = y + FLOAT32.itemsize * of_y
        y_c = y_h + FLOAT32.itemsize * of_state if lstm else None
        x_time, x_batch = x.strides[0] // FLOAT32.itemsize, x.strides[1] // FLOAT32.itemsize
        given = (_address(x), x_time, x_batch, _address(lengths), _address(initial_h), _address(initial_c))
        result = self._call(self._weights.handle, self._index, self._threads, time, batch, *given, y, y_h, y_c)
        if result != OK:
            raise self._failure(result, x, lengths)
        return (
            out[:of_y].reshape(batch, time, layer.directions, layer.hidden).transpose(1, 2, 0, 3),
            out[of_y : of_y + of_state].reshape(states),
            out[of_y + of_state :].reshape(states if lstm else (0, batch, layer.hidden)),
        )

    def _failure(self, result: int, x: Floats, lengths: NDArray[np.int32] | None) -> Exception:
        if result > OK:
            return FloatingPointError(f"row {result - 1} of the batch holds NaN or infinity, or grows to infinity")
        if result == NO_MEMORY:
            return MemoryError(f"no memory for a call of {x.shape[1]} rows")
        if lengths is not None:
            return ValueError(f"lengths reach from {lengths.min()} to {lengths.max()}, expected 1 to {x.shape[0]}")
        return ValueError(f"x{list(x.shape)} or {self._threads} threads is more, or less, than a layer takes")


def _rows_of_floats(x: Floats, inputs: int) -> Floats:
    if x.dtype != FLOAT32 or x.ndim != 3 or x.shape[2] != inputs or 0 in x.shape:
        raise ValueError(f"x is {x.dtype}{list(x.shape)}, expected float32[time, batch, {inputs}] that is not empty")
    time, batch, last = x.strides
    fits = (last == FLOAT32.itemsize or inputs == 1) and time % FLOAT32.itemsize == 0 == batch % FLOAT32.itemsize
    return x if fits else np.ascontiguousarray(x)


def _contiguous(array: NDArray[Any] | None, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    if array is None:
        return None
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"lengths or a state are {array.dtype}{list(array.shape)}, expected {dtype}{list(shape)}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _address(array: NDArray[Any] | None) -> int | None:
    if array is None:
        return None
    flags = array.flags
    if flags.writeable and flags.c_contiguous:  # the quick way: a third of the time
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    address: int = array.__array_interface__["data"][0]
    return address
