"""From a file to a graph that the rest can work on: one opset, no functions, no `layout`, constants folded."""

from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper, version_converter

from export.errors import ExportError
from export.graphs import all_graphs, all_nodes, subgraphs
from export.onnx_file.evaluate import Array, evaluate, first_line, reads, show

RECURRENT = ("LSTM", "GRU", "RNN")
QUANTIZED = ("DynamicQuantizeLSTM",)
OPSET = 20
"""Older files are converted to it: axes of reductions are inputs there, which is the only form the rest knows."""
MAX_BYTES = 2**31 - 1
"""Protobuf's limit of one message."""
PREFIX = "file/"
"""Of all values that come from the file, so that the names of the artefact's tensors are free."""
ADDED = "added/"
"""Prefix of the values and nodes that the file did not have; it may be one of ours and have them."""
RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
DTYPES = (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64)


def read_model(path: Path) -> ModelProto:
    """Return the model of a file, external weights inside, as the file has it.

    Raises:
        ExportError: missing, no ONNX file or a damaged one, or over 2 GB.
    """
    try:
        size = path.stat().st_size
        model = onnx.load(path) if size <= MAX_BYTES else None
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # protobuf's and onnx' exceptions share no base class
        raise ExportError(f"{path}: not an ONNX file, or a damaged one ({first_line(error)})") from error
    size = size if model is None else model.ByteSize()
    if model is None or size > MAX_BYTES:
        raise ExportError(f"{path}: has {size:,} bytes with its weights; one file can hold {MAX_BYTES:,}")
    if not model.graph.node:
        raise ExportError(f"{path}: not an ONNX file: it holds no graph with nodes")
    return model


def check_model(model: ModelProto) -> None:
    """Check that a model keeps to the standard and is what this exporter is for.

    Raises:
        ExportError: it is not: damaged, quantized already, without a recurrent node, or with inputs of other types.
    """
    try:
        onnx.checker.check_model(model)
        inlined = inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:  # as above
        raise ExportError(f"the file breaks the ONNX standard: {first_line(error)}") from error
    _check_recurrent(inlined.graph)
    _check_inputs(inlined.graph)


def runnable(model: ModelProto) -> ModelProto:
    """Return the model as onnxruntime takes it: itself, unless it has recurrent nodes of layout 1."""
    if all(attribute.name != "layout" for node in model.graph.node for attribute in node.attribute):
        return model
    turned = ModelProto()
    turned.CopyFrom(model)
    turn_layout(turned.graph)
    return turned


def normalise(model: ModelProto) -> ModelProto:
    """Return a checked model with functions inlined, an opset of at least `OPSET` and time-major recurrent nodes.

    Raises:
        ExportError: it cannot be converted.
    """
    model = inliner.inline_local_functions(model)
    opset = next((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), OPSET)
    if opset < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:
            raise ExportError(
                f"the file has opset {opset}, and onnx cannot convert it to {OPSET}: {first_line(error)}; export the "
                f"model again with opset {OPSET}"
            ) from error
    model.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(model.opset_import))
    turn_layout(model.graph)
    name_nodes(model.graph)
    return model


def _check_recurrent(graph: GraphProto) -> None:
    quantized = [node for node in graph.node if node.op_type in QUANTIZED]
    if quantized:
        raise ExportError(f"{show(quantized[0])} is INT8 already; start from the float file it was made from")
    if any(node.op_type in RECURRENT for node in graph.node):
        return
    inner = [
        node
        for node in graph.node
        if any(part.op_type in RECURRENT for body in subgraphs(node) for part in all_nodes(body))
    ]
    if inner:
        raise ExportError(
            f"recurrent nodes lie only inside {show(inner[0])}; lengths can be given to those of the main graph only"
        )
    loops = sorted({node.op_type for node in graph.node} & {"Loop", "Scan"})
    written = (
        f"; its {loops} may hold a recurrence written by hand: export it from a framework's own layer" if loops else ""
    )
    raise ExportError(f"the file has no recurrent node ({', '.join(RECURRENT)}){written}")


def _check_inputs(graph: GraphProto) -> None:
    for value in inputs_of(graph):
        kind = value.type.tensor_type.elem_type
        if not value.type.HasField("tensor_type") or kind not in DTYPES:
            name = TensorProto.DataType.Name(kind) if kind else "no tensor"
            raise ExportError(
                f"input '{value.name}' is {name}; expected FLOAT, INT32 or INT64. Export the model in float32"
            )


def inputs_of(graph: GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that a caller gives: old files list their weights among the inputs as well."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def turn_layout(graph: GraphProto) -> None:
    """Turn recurrent nodes of layout 1 (batch-first), which onnxruntime refuses, into layout 0 between transposes."""
    nodes = []
    for node in graph.node:
        layout = [attribute for attribute in node.attribute if attribute.name == "layout"]
        if node.op_type in RECURRENT and layout:
            node.attribute.remove(layout[0])
            nodes += _turned(node) if layout[0].i == 1 else [node]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _turned(node: NodeProto) -> list[NodeProto]:
    before, after = [], []
    for i in (0, 5, 6):
        if i < len(node.input) and node.input[i]:
            outer, inner = node.input[i], f"{node.output[0] or node.output[1]}/in{i}"
            before.append(helper.make_node("Transpose", [outer], [inner], perm=[1, 0, 2]))
            node.input[i] = inner
    for i, outer in enumerate(list(node.output)):
        if outer:
            node.output[i] = f"{outer}/time_major"
            after.append(
                helper.make_node("Transpose", [node.output[i]], [outer], perm=[2, 0, 1, 3] if i == 0 else [1, 0, 2])
            )
    return [*before, node, *after]


def name_nodes(graph: GraphProto) -> None:
    """Give every node a name of its own: reasons name nodes, and quantization goes by the names of recurrent ones."""
    taken: set[str] = set()
    for i, node in enumerate(graph.node):
        name = node.name
        if not name or name.startswith(ADDED):
            name = f"{node.op_type}_{i}"
        while name in taken:
            name = f"{name}_{i}"
        node.name = name
        taken.add(name)


def prefix_values(model: ModelProto) -> ModelProto:
    """Return the model with `PREFIX` before the names of all values, those in subgraphs too.

    onnx.compose.add_prefix leaves out what subgraphs take from outside (onnx 1.23).
    """
    renamed = ModelProto()
    renamed.CopyFrom(model)
    for graph in all_graphs(renamed.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            value.name = PREFIX + value.name
        for tensor in graph.initializer:
            tensor.name = PREFIX + tensor.name
        for node in graph.node:
            for side in (node.input, node.output):
                side[:] = [PREFIX + name if name else "" for name in side]
    return renamed


def fold_constants(model: ModelProto) -> tuple[list[NodeProto], dict[str, Array]]:
    """Return the nodes that depend on an input, and all constants by name: weights, and what is computed from them.

    Raises:
        ExportError: a node cannot be run.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        names = reads(node)
        if node.op_type in RANDOM or not constants.keys() >= set(names):
            nodes.append(node)
            continue
        constants |= evaluate(node, [{name: constants[name] for name in names}], model.opset_import)[0]
    return nodes, constants
