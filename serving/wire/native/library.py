"""The C++ library as Python sees it (`src/api.h`). Calls go through ctypes, which lets go of the interpreter's lock."""

import ctypes
import functools
from pathlib import Path
from typing import Any

from serving.errors import FrontUnavailable

LIBRARY = Path(__file__).parent / "liblstm_front.so"
PACKAGES = "g++ libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc"
"""Of Debian and Ubuntu, which the library is built with."""
DESCRIPTORS = 2
"""Of a connection: by the second the library sees that it is over (`src/listener.h`)."""
MESSAGE_BYTES = 1024

handle, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
int32, int64 = ctypes.c_int32, ctypes.c_int64
Int64s = ctypes.POINTER(int64)


class Bytes(ctypes.Structure):
    """Bytes that the library has written; `taken` returns them and has it free them."""

    _fields_ = (("data", ctypes.c_void_p), ("size", size))


class Arrivals(ctypes.Structure):
    """What has come to an inbox."""

    _fields_ = (
        *((name, int64) for name in ("capacity", "lengths_capacity", "cancelled_capacity")),
        *((name, Int64s) for name in ("rows", "lengths", "queued_ns", "deadline_ns", "priority", "cancelled")),
        *((name, int64) for name in ("count", "cancelled_count")),
    )


class Event(ctypes.Structure):
    """Something that has happened on a call that Python answers."""

    _fields_ = (("kind", int32), ("call", int64), ("content", Bytes))


CertificateSource = ctypes.CFUNCTYPE(int32, ctypes.POINTER(Bytes))

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "free": (None, [handle]),
    "slots_open": (handle, [int64, int64]),
    "slots_close": (None, [handle]),
    "slots_take": (int32, [handle, text]),
    "slots_give_back": (None, [handle, text]),
    "slots_wait_empty": (None, [handle, ctypes.c_double]),
    "open": (handle, [text, size, handle, CertificateSource, text, size]),
    "close": (None, [handle]),
    "port": (int32, [handle]),
    "start": (None, [handle]),
    "drain": (None, [handle]),
    "stop": (None, [handle, ctypes.c_double]),
    "set_health": (None, [handle, text, int32]),
    "end_watches": (None, [handle]),
    "set_tokens": (None, [handle, text, size]),
    "counts": (Bytes, [handle]),
    "forget": (None, [handle, text, text]),
    "inbox_open": (handle, [handle, text, size]),
    "inbox_close": (None, [handle]),
    "inbox_shut": (None, [handle]),
    "set_routes": (None, [handle, size, ctypes.POINTER(text), ctypes.POINTER(text), ctypes.POINTER(handle)]),
    "take": (None, [handle, int64, ctypes.POINTER(Arrivals)]),
    "wait_idle": (None, [handle]),
    "rouse": (None, [handle]),
    "wait_overdue": (None, [handle, int64]),
    "wake": (None, [handle]),
    "gather": (int32, [handle, handle, handle, size, int64, ctypes.POINTER(handle), handle]),
    "scatter": (int32, [handle, handle, handle, size, int64, ctypes.POINTER(handle), handle]),
    "answer": (None, [handle, handle, handle, size]),
    "fail": (None, [handle, handle, int64, text, text, size]),
    "hold_off": (None, [handle, handle, int64, int64, int64, text, text, size]),
    "resume": (None, [handle]),
    "refer": (None, [handle, int64]),
    "request_id": (Bytes, [handle, int64]),
    "next": (Event, [handle, int32]),
    "call_describe": (Bytes, [handle, int32, int64]),
    "call_receive": (None, [handle, int32, int64]),
    "call_send": (None, [handle, int32, int64, text, size]),
    "call_finish": (None, [handle, int32, int64, text, size, text, size]),
    "call_active": (int32, [handle, int32, int64]),
    "call_release": (None, [handle, int32, int64]),
    "offer": (handle, [handle, text, size, int64, int64]),
    "collect": (Bytes, [handle]),
}


def is_built() -> bool:
    """Return whether the library was built when the package was installed."""
    return LIBRARY.exists()


@functools.cache
def load_library() -> Any:  # noqa: ANN401  a library of functions without types
    """Return the library; its functions lack the prefix `lstm_front_`.

    Raises:
        FrontUnavailable: it was not built, or does not load here.
    """
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise FrontUnavailable(
            f"the native front is not there ({error}); it is built when lstm-serving is installed with gRPC's C++ "
            f"library at hand: apt-get install {PACKAGES}, then install the package again (make native); or serve "
            "with --wire grpcio"
        ) from error
    functions = {}
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, f"lstm_front_{name}")
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return type("Library", (), {name: staticmethod(function) for name, function in functions.items()})


def taken(content: Bytes) -> bytes:
    """Return bytes that the library has written, which it then frees."""
    if not content.data:
        return b""
    copy = ctypes.string_at(content.data, content.size)
    load_library().free(content.data)
    return copy
