"""`lstm-export`: the command line. Exit codes: 0 done; 1 an error; 2 a usage error or a failed proof; 130 Ctrl-C."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from export.errors import ProofFailed
from export.job import Checks, Job
from export.proving.gate import GateUsageError, describe_figures, parse_gate
from export.proving.metric import Metric, load_metric
from export.spec import CTC_FORM, make_spec, parse_ctc, parse_input
from serving.completion import FLAG, HELP, SHELLS, completion
from serving.errors import ArtifactError, ConfigError

Parents = Sequence[argparse.ArgumentParser]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        return COMMANDS[arguments.command](arguments, console)
    except GateUsageError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)
        return 2
    except ProofFailed as error:
        console.print(f"[bold red]failed:[/bold red] {escape(str(error))}", soft_wrap=True)
        return 2
    except ArtifactError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; nothing was written")
        return 130


def _torch(arguments: argparse.Namespace, console: Console) -> int:
    from export.pytorch.export_torch import export_torch  # noqa: PLC0415  torch takes seconds to load; --help must not

    ctc = {} if arguments.ctc is None else parse_ctc(arguments.ctc)
    ctc |= {key: value for key in ("blank", "beam_width") if (value := getattr(arguments, f"ctc_{key}")) is not None}
    flags = {
        "factory": arguments.factory,
        "weights": arguments.weights,
        "name": arguments.name,
        "inputs": tuple(map(parse_input, arguments.input)) if arguments.input else None,
        "outputs": arguments.output_names.split(",") if arguments.output_names else None,
        "lengths_argument": arguments.lengths_argument,
        "ctc": ctc or None,
    }
    export_torch(make_spec(arguments.spec, flags), arguments.output, _job(arguments, console))
    return 0


def _onnx(arguments: argparse.Namespace, console: Console) -> int:
    from export.onnx_file.export_onnx import export_onnx  # noqa: PLC0415  as above, for onnx and onnxruntime

    export_onnx(
        arguments.file,
        name=arguments.name,
        inputs=tuple(map(parse_input, arguments.input)) if arguments.input else None,
        models=arguments.output,
        job=_job(arguments, console),
    )
    return 0


def _quantize(arguments: argparse.Namespace, console: Console) -> int:
    from export.smaller.export_int8 import export_int8  # noqa: PLC0415  as above, onnxruntime's quantization

    export_int8(arguments.version, _job(arguments, console), _checks(arguments), engine=arguments.engine)
    return 0


def _half(arguments: argparse.Namespace, console: Console) -> int:
    from export.smaller.export_half import export_half  # noqa: PLC0415  as above

    job, checks = _job(arguments, console), _checks(arguments)
    export_half(arguments.version, job, checks, float_state=arguments.float_state)
    return 0


def _verify(arguments: argparse.Namespace, _: Console) -> int:
    from export.rerun import Settings  # noqa: PLC0415  as above
    from export.verify import verify  # noqa: PLC0415  as above

    settings = Settings(data=arguments.data, device=arguments.device, metric=_metric(arguments))
    return 0 if verify(arguments.directory, settings, Console()) else 2


def _inspect(arguments: argparse.Namespace, _: Console) -> int:
    from export.inspection import inspect  # noqa: PLC0415  as above

    inspect(arguments.directory, Console())
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "torch": _torch,
    "onnx": _onnx,
    "quantize": _quantize,
    "half": _half,
    "verify": _verify,
    "inspect": _inspect,
}


def _job(arguments: argparse.Namespace, console: Console) -> Job:
    return Job(data=arguments.data, force=arguments.force, console=console)


def _metric(arguments: argparse.Namespace) -> Metric | None:
    if arguments.metric is None:
        return None
    return load_metric(arguments.metric, lower_is_better=arguments.metric_lower_is_better)


def _checks(arguments: argparse.Namespace) -> Checks:
    return Checks(metric=_metric(arguments), gate={} if arguments.gate is None else parse_gate(arguments.gate))


def _parser() -> argparse.ArgumentParser:
    data, force, metric, gate, repository = (argparse.ArgumentParser(add_help=False) for _ in range(5))
    data.add_argument(
        "--data",
        metavar="FILE.npz|MODULE:FUNCTION",
        help="real sequences: one batch-first array per input, and 'lengths'; a function returns a dict of them",
    )
    force.add_argument("--force", action="store_true", help="write even if a proof fails; the manifest says so")
    metric.add_argument(
        "--metric",
        metavar="MODULE:FUNCTION",
        help="metric(outputs, data) -> float, each a dict of lists with one array per sequence; the data may then hold "
        "more arrays, such as labels",
    )
    metric.add_argument(
        "--metric-lower-is-better", action="store_true", help="of the metric; default: higher is better"
    )
    gate.add_argument(
        "--gate", metavar="FIGURE=LIMIT,...", help=f"limits beyond which nothing is written: {describe_figures()}"
    )
    repository.add_argument(
        "--output", type=Path, default=Path("models"), metavar="DIR", help="repository (default: models)"
    )
    parser = argparse.ArgumentParser(prog="lstm-export", description="Export recurrent models with proofs.")
    parser.add_argument(FLAG, choices=SHELLS, action=_PrintCompletion, help=HELP)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_torch(commands, [data, force, repository])
    onnx = commands.add_parser("onnx", parents=[data, force, repository], help="take in an ONNX file made by others")
    onnx.add_argument("file", type=Path, metavar="FILE", help="ONNX model with recurrent layers")
    onnx.add_argument("--name", required=True, help="the model's name in the repository")
    onnx.add_argument(
        "--input", action="append", metavar="NAME:DTYPE[AXES]", help="axes of an input; guessed if absent"
    )
    quantize = commands.add_parser(
        "quantize", parents=[data, force, metric, gate], help="make an INT8 version of an exported one"
    )
    half = commands.add_parser(
        "half", parents=[data, force, metric, gate], help="make an FP16 version of an exported one, for GPUs"
    )
    for command in (quantize, half):
        command.add_argument("version", type=Path, metavar="models/NAME/VERSION", help="folder of the FP32 version")
    quantize.add_argument(
        "--engine",
        choices=["auto", "native", "onnxruntime"],
        default="auto",
        help="onnxruntime: standard operators only; native: also the form that the native engine runs, preferred; auto "
        "(default): both if the native engine was built, the faster one preferred",
    )
    half.add_argument("--float-state", action="store_true", help="keep recurrent layers and their state in FP32")
    verify = commands.add_parser("verify", parents=[data, metric], help="repeat the proofs of versions on this machine")
    verify.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="where FP32 and FP16 run (default: cpu)"
    )
    inspect = commands.add_parser("inspect", help="show what a version is and what was proven of it")
    for command in (verify, inspect):
        command.add_argument("directory", type=Path, metavar="DIR", help="models/NAME/VERSION, models/NAME or models")
    return parser


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        try:
            script = completion(parser, str(given[1]))
        except ConfigError as error:
            parser.exit(1, f"{parser.prog}: {error}\n")
        sys.stdout.write(script)
        parser.exit()


def _add_torch(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", parents: Parents) -> None:
    torch = commands.add_parser("torch", parents=parents, help="export a PyTorch model to ONNX (FP32)")
    torch.add_argument("factory", nargs="?", metavar="MODULE:FACTORY", help="called without arguments, gives the model")
    torch.add_argument("--weights", type=Path, metavar="FILE", help="state dict: .pt, .pth or .safetensors")
    torch.add_argument(
        "--input",
        action="append",
        metavar="NAME:DTYPE[AXES]",
        help="a tensor argument of forward, for example 'x:float32[batch,time,12]'; repeat for more",
    )
    torch.add_argument("--name", help="the model's name in the repository")
    torch.add_argument("--output-names", metavar="A,B", help="names of what forward returns, in order")
    torch.add_argument("--lengths-argument", metavar="NAME", help="forward's parameter of lengths (default: lengths)")
    torch.add_argument(
        "--ctc", metavar="OUTPUT=SYMBOLS_FILE", help=f"let the server decode text from an output: {CTC_FORM}"
    )
    torch.add_argument("--ctc-blank", type=int, metavar="N", help="class of the blank (default: 0)")
    torch.add_argument("--ctc-beam-width", type=int, metavar="N", help="prefixes that the search keeps (default: 16)")
    torch.add_argument("--spec", type=Path, metavar="FILE.yaml", help="the same in YAML; flags win")


if __name__ == "__main__":
    sys.exit(main())
