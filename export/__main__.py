"""`lstm-export`: the command line. Exit codes: 0 written; 1 an error; 2 a usage error or a failed proof; 130 Ctrl-C."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from export.errors import ProofFailed
from export.job import Job
from export.spec import make_spec, parse_input
from serving.errors import ArtifactError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    job = Job(data=arguments.data, force=arguments.force, console=console)
    try:
        if arguments.command == "torch":
            _torch(arguments, job)
        else:
            _quantize(arguments, job)
    except ProofFailed as error:
        console.print(f"[bold red]failed:[/bold red] {escape(str(error))}", soft_wrap=True)
        return 2
    except ArtifactError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; nothing was written")
        return 130
    return 0


def _torch(arguments: argparse.Namespace, job: Job) -> None:
    from export.export_torch import export_torch  # noqa: PLC0415  torch takes seconds to load; --help must not

    flags = {
        "factory": arguments.factory,
        "weights": arguments.weights,
        "name": arguments.name,
        "inputs": tuple(map(parse_input, arguments.input)) if arguments.input else None,
        "outputs": arguments.output_names.split(",") if arguments.output_names else None,
        "lengths_argument": arguments.lengths_argument,
    }
    export_torch(make_spec(arguments.spec, flags), arguments.output, job)


def _quantize(arguments: argparse.Namespace, job: Job) -> None:
    from export.export_int8 import export_int8  # noqa: PLC0415  as above, onnxruntime's quantization

    export_int8(arguments.version, job)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data", type=Path, metavar="FILE.npz", help="real sequences: one batch-first array per input, and 'lengths'"
    )
    common.add_argument("--force", action="store_true", help="write even if a proof fails; the manifest says so")
    parser = argparse.ArgumentParser(prog="lstm-export", description="Export recurrent models with proofs.")
    commands = parser.add_subparsers(dest="command", required=True)
    torch = commands.add_parser("torch", parents=[common], help="export a PyTorch model to ONNX (FP32)")
    torch.add_argument("factory", nargs="?", metavar="MODULE:FACTORY", help="called without arguments, gives the model")
    torch.add_argument("--weights", type=Path, metavar="FILE", help="state dict: .pt, .pth or .safetensors")
    torch.add_argument(
        "--input",
        action="append",
        metavar="NAME:DTYPE[AXES]",
        help="a tensor argument of forward, for example 'x:float32[batch,time,12]'; repeat for more",
    )
    torch.add_argument("--name", help="the model's name in the repository")
    torch.add_argument(
        "--output", type=Path, default=Path("models"), metavar="DIR", help="repository (default: models)"
    )
    torch.add_argument("--output-names", metavar="A,B", help="names of what forward returns, in order")
    torch.add_argument("--lengths-argument", metavar="NAME", help="forward's parameter of lengths (default: lengths)")
    torch.add_argument("--spec", type=Path, metavar="FILE.yaml", help="the same in YAML; flags win")
    quantize = commands.add_parser("quantize", parents=[common], help="make an INT8 version of an exported one")
    quantize.add_argument("version", type=Path, metavar="models/NAME/VERSION", help="folder of the FP32 version")
    return parser


if __name__ == "__main__":
    sys.exit(main())
