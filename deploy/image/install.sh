#!/bin/sh
# Install lstm-serve into a directory of its own, as the serving image has it: a virtual environment without pip.
# Usage: sh deploy/image/install.sh DEVICE TARGET
#   DEVICE  cpu or gpu: which ONNX Runtime
#   TARGET  absolute path that does not exist yet; the environment stays usable only there
# It takes python3 (PYTHON names another) with its venv module, a C++17 compiler, and gRPC's C++ library with its compiler
# plugin (Debian and Ubuntu: libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc). pip's own configuration applies.
set -eu

device=${1:-} target=${2:-}
python=${PYTHON:-python3}
source=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)

case $device in
cpu | gpu) ;;
*)
    echo "install.sh: DEVICE is '$device', expected cpu or gpu" >&2
    exit 2
    ;;
esac
case $target in
/*) ;;
*)
    echo "install.sh: TARGET is '$target', expected an absolute path" >&2
    exit 2
    ;;
esac
if [ -e "$target" ]; then
    echo "install.sh: $target is there already; remove it, or name another" >&2
    exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Two environments: what builds the package (pip, scikit-build-core, CMake) never gets into the one that serves.
"$python" -m venv "$work/build"
"$python" -m venv --without-pip "$target"
pip() {
    "$work/build/bin/python" -m pip --disable-pip-version-check --quiet "$@"
}

# The versions that the tests run with. -c alone leaves free what builds the package: pip before 25.3 takes that from
# PIP_CONSTRAINT, later ones from the other. A path in them must have no spaces, which a relative one never has.
cd "$work"
cp "$source/constraints.txt" .
export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt

# The build would leave files beside the sources, which may be read-only, so it gets a copy. Where the native engine or the
# native front cannot be compiled the build fails, instead of doing without: an image without them would be silently slower.
mkdir "$work/source"
for name in serving export proto CMakeLists.txt pyproject.toml README.md LICENSE; do
    cp -R "$source/$name" "$work/source/"
done
rm -f "$work/source/serving/engine/native/liblstm_native.so" "$work/source/serving/wire/native/liblstm_front.so"
pip wheel --no-deps --config-settings wheel.cmake=true --config-settings cmake.define.FRONT_REQUIRED=ON --wheel-dir "$work/wheels" "$work/source"

# Dependencies come as wheels only, so that nothing else is compiled, nor any setup.py run.
wheel=$(echo "$work"/wheels/*.whl)
pip --python "$target/bin/python" install --only-binary :all: "$wheel[$device]"

# What was installed must start, and must have the native engine and the native front.
"$target/bin/python" -I - <<'END'
from serving.engine.native import library as engine
from serving.engine.runtime import load_onnxruntime
from serving.wire.native import library as front

engine.load_library()
front.load_library()
load_onnxruntime()
END
"$target/bin/lstm-serve" --model-repository /models --print-config >/dev/null
echo "installed lstm-serve ($device) into $target: $(du -sm "$target" | cut -f 1) MiB"
