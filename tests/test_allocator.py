"""What glibc does after it was told: in a process of its own, since it cannot be told otherwise again."""

import ctypes
import json
import os
import subprocess
import sys

import pytest

from serving.allocator import ARENAS, OWN_PAGES_BYTES

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc, which has mallopt")

PROGRAM = f"""
import ctypes, json, threading, xml.etree.ElementTree as ElementTree
from serving.allocator import tune_allocator

tune_allocator()
libc = ctypes.CDLL(None)
for name in ("malloc", "fopen"):
    getattr(libc, name).restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
for name in ("free", "fclose"):
    getattr(libc, name).argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]

def state():
    file = libc.fopen(b"state.xml", b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    root = ElementTree.parse("state.xml").getroot()
    own = root.find("total[@type='mmap']").get("count")
    return len(root.findall("heap")), int(own)

all_there = threading.Barrier(16)
def allocate():
    block = libc.malloc(1000)
    all_there.wait()
    libc.free(block)
threads = [threading.Thread(target=allocate) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()

libc.free(libc.malloc(2 ** 24))  # the first that is freed raises the bound, unless that is fixed
before = state()[1]
blocks = [libc.malloc({OWN_PAGES_BYTES} + 1) for _ in range(8)]
arenas, after = state()
print(json.dumps([arenas, after - before]))
"""


def run(path: os.PathLike[str], **variables: str) -> tuple[int, int]:
    """Return how many arenas 16 threads have, and how many of 8 large blocks have pages of their own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), **variables}
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=True)
    arenas, own = json.loads(ended.stdout)
    return arenas, own


def test_few_arenas_and_large_blocks_apart(tmp_path: os.PathLike[str]) -> None:
    assert run(tmp_path) == (ARENAS, 8)


def test_whoever_sets_the_environment_decides(tmp_path: os.PathLike[str]) -> None:
    arenas, own = run(tmp_path, MALLOC_ARENA_MAX="3")

    assert (arenas, own) == (3, 0)
