#!/bin/sh
# Make .venv with the newest suitable Python and install this package with one extra.
# Usage: scripts/venv.sh EXTRA    (from the repository's root; PYTHON=... chooses the interpreter)
# pip's own configuration and environment apply: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, pip.conf.
set -eu

suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if ! suitable .venv/bin/python; then
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        suitable "$python" && break
        python=
    done
    if [ -z "$python" ]; then
        echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2
        exit 1
    fi
    echo "Making .venv with $($python --version)"
    if ! "$python" -m venv --clear .venv; then
        rm -rf .venv
        echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

engine=serving/engine/native/liblstm_native.so front=serving/wire/native/liblstm_front.so
rm -f "$engine" "$front" # afterwards they are there only if they were built from these sources

echo "Installing lstm-serving[$1] into .venv (the first time takes a few minutes)"
# -c alone leaves free what builds this package: pip before 25.3 takes that from PIP_CONSTRAINT, later ones from the other.
PIP_CONSTRAINT="constraints.txt${PIP_CONSTRAINT:+ $PIP_CONSTRAINT}" \
    PIP_BUILD_CONSTRAINT="constraints.txt${PIP_BUILD_CONSTRAINT:+ $PIP_BUILD_CONSTRAINT}" \
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$1]"

if [ ! -e "$engine" ]; then
    echo "The native INT8 engine is not built: INT8 models run on onnxruntime instead."
    if command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null; then
        echo "The C++ compiler here could not build it; 'make native' shows why."
    else
        echo "It takes a C++ compiler. On Debian and Ubuntu: apt-get install g++, then make native"
    fi
fi
if [ ! -e "$front" ]; then
    echo "The native front is not built: requests come through grpcio, which takes several times the CPU. On Debian and Ubuntu:"
    echo "apt-get install g++ libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc, then make native"
fi
