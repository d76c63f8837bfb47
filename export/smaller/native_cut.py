"""Cuts an FP32 graph at its recurrent nodes: those go to the native engine, what lies between to onnxruntime.

The rest of the graph is gathered into as few parts as the order of the recurrent nodes allows: a node runs as late as
whatever reads it permits. Nodes that only look at a recurrent layer's tensors in another shape become views, so that
stacked layers need no onnxruntime between them.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from export.errors import ExportError
from export.graphs import name_nodes, read_by
from export.model import OnnxModel
from export.smaller.coverage import RECURRENT, Coverage, cover, named
from export.smaller.native_form import NativeForm, plan_file
from export.smaller.native_layers import INITIAL_C, INITIAL_H, LENGTHS, NativeLayer, input_of, native_layers
from export.smaller.native_views import Parts, find_views
from serving.engine.native.weights import pack
from serving.plan import WEIGHTS_FILE, OnnxPart, Part, Plan, RecurrentPart


def cut(model: OnnxModel) -> NativeForm:
    """Return the model cut at the recurrent nodes that the native engine can run.

    Raises:
        ExportError: there are none.
    """
    proto = onnx.load_from_string(model.content)
    name_nodes(proto.graph)
    layers = native_layers(proto.graph)
    chosen = [layer for layer in layers if layer.layer is not None]
    reasons = {layer.node.name: layer.reason for layer in layers}
    coverage = cover(
        proto.graph, [layer.node.name for layer in chosen], lambda node: reasons.get(node.name) or _why_float(node)
    )
    if not chosen:
        left = [node for node in coverage.left if node.operator in RECURRENT]
        raise ExportError(f"the native engine can run no node: {named(left) or 'the model has no recurrent layer'}")
    return _Cut(proto, chosen).form(coverage)


def _why_float(node: NodeProto) -> str:
    if node.op_type in RECURRENT:
        return "it runs inside a Loop, Scan or If; the native engine has layers of the graph itself only"
    return "the native form keeps all but recurrent layers float, so that company changes nothing"


class _Cut:
    """The work on one graph."""

    def __init__(self, proto: ModelProto, chosen: Sequence[NativeLayer]) -> None:
        self._proto = proto
        self._graph = proto.graph
        self._chosen = {layer.node.name: layer for layer in chosen}
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._outputs = {output.name for output in self._graph.output}

    def form(self, coverage: Coverage) -> NativeForm:
        layers = [chosen.layer for chosen in self._chosen.values() if chosen.layer is not None]
        weights = pack(layers)
        files = {WEIGHTS_FILE: weights}
        parts = self._parts(files)
        unmade = self._outputs - {name for part in parts for name in part.outputs}
        if unmade:
            raise ExportError(f"the outputs {sorted(unmade)} are made by no node of the graph, so it cannot be cut")
        return NativeForm(
            plan=Plan(weights=plan_file(WEIGHTS_FILE, weights), parts=tuple(parts)),
            files=files,
            coverage=coverage,
            largest_hidden=max(layer.hidden for layer in layers),
            floats={name: self._float_model(layer.node) for name, layer in self._chosen.items()},
        )

    @cached_property
    def _makers(self) -> dict[str, NodeProto]:
        return {name: node for node in self._graph.node for name in node.output}

    @cached_property
    def _readers(self) -> dict[str, list[NodeProto]]:
        readers: dict[str, list[NodeProto]] = {}
        for node in self._graph.node:
            for name in self._reads(node):
                readers.setdefault(name, []).append(node)
        return readers

    def _reads(self, node: NodeProto) -> list[str]:
        """Return the tensors that running a node takes, constants left out."""
        if node.name in self._chosen:
            lengths = input_of(node, LENGTHS)
            states = [input_of(node, INITIAL_H), input_of(node, INITIAL_C) if node.op_type == "LSTM" else None]
            names: Iterable[str | None] = [node.input[0], self._lengths(lengths), *states]
        elif node.name in self._views:
            names = [name for part in self._views[node.name] for name in part.inputs]
        else:
            names = read_by(node)
        return [name for name in dict.fromkeys(names) if name and name not in self._constants]

    def _lengths(self, name: str | None) -> str | None:
        """Return the tensor behind a cast to INT32: the native engine takes any integers."""
        maker = None if name is None else self._makers.get(name)
        return maker.input[0] if maker is not None and maker.op_type == "Cast" else name

    @cached_property
    def _views(self) -> dict[str, Parts]:
        layers = {name: chosen.layer for name, chosen in self._chosen.items() if chosen.layer is not None}
        return find_views(self._graph, layers)

    def _parts(self, files: dict[str, bytes]) -> list[Part]:
        """Return the parts in an order in which they can run."""
        stages = self._stages()
        waiting: list[Part] = []
        for stage in sorted(set(stages.values())):
            nodes = [node for node in self._graph.node if stages.get(node.name) == stage]
            piece, content = self._onnx_part(f"part-{len(files) - 1}.onnx", nodes)
            files[piece.file.name] = content
            waiting.append(piece)
        for node in self._needed:
            if node.name in self._chosen:
                waiting.append(self._recurrent_part(node))
            else:
                waiting += self._views.get(node.name, ())
        ready = {value.name for value in self._graph.input}
        ordered: list[Part] = []
        while waiting:
            runnable = next((part for part in waiting if ready.issuperset(part.inputs)), None)
            if runnable is None:
                names = [node.name for node in self._needed if node.name in self._chosen]
                raise ExportError(f"the graph cannot be cut at its recurrent nodes {names}: its parts read each other")
            waiting.remove(runnable)
            ordered.append(runnable)
            ready.update(runnable.outputs)
        return ordered

    @cached_property
    def _needed(self) -> list[NodeProto]:
        """Return the nodes that the graph's outputs take, in order."""
        wanted, nodes = set(self._outputs), []
        for node in reversed(self._graph.node):
            if wanted & set(node.output):
                nodes.append(node)
                wanted.update(self._reads(node))
        return nodes[::-1]

    def _stages(self) -> dict[str, int]:
        """Return for each node of onnxruntime's how many recurrent nodes run before its part, as many as can."""
        rank: dict[str, int] = {}
        for node in self._needed:
            before = max((rank[maker.name] for maker in self._sources(node)), default=0)
            rank[node.name] = before + (node.name in self._chosen)
        last = max(rank.values())
        latest: dict[str, int] = {}
        for node in reversed(self._needed):
            ends = [
                rank[reader.name] - 1 if reader.name in self._chosen else latest[reader.name]
                for name in node.output
                for reader in self._readers.get(name, [])
                if reader.name in rank
            ]
            latest[node.name] = min(ends, default=last)
        kept = [node.name for node in self._needed if node.name not in self._chosen and node.name not in self._views]
        return {name: latest[name] for name in kept}

    def _sources(self, node: NodeProto) -> list[NodeProto]:
        return [self._makers[name] for name in self._reads(node) if name in self._makers]

    def _recurrent_part(self, node: NodeProto) -> RecurrentPart:
        layer = self._chosen[node.name].layer
        assert layer is not None
        outputs = [name if name in self._outputs or self._is_read(name) else None for name in node.output]
        y, y_h, y_c = (*outputs, None, None, None)[:3]
        return RecurrentPart(
            node=node.name,
            operator=layer.operator,
            layer=list(self._chosen).index(node.name),
            x=node.input[0],
            lengths=self._lengths(input_of(node, LENGTHS)),
            initial_h=input_of(node, INITIAL_H),
            initial_c=input_of(node, INITIAL_C) if node.op_type == "LSTM" else None,
            y=y or None,
            y_h=y_h or None,
            y_c=y_c or None,
        )

    def _is_read(self, name: str) -> bool:
        needed = {node.name for node in self._needed}
        return any(reader.name in needed for reader in self._readers.get(name, []))

    def _onnx_part(self, name: str, nodes: Sequence[NodeProto]) -> tuple[OnnxPart, bytes]:
        made = {output for node in nodes for output in node.output}
        read = dict.fromkeys(tensor for node in nodes for tensor in self._reads(node) if tensor not in made)
        inside = {node.name for node in nodes}
        needed = {node.name for node in self._needed} - inside
        given = [
            output
            for node in nodes
            for output in node.output
            if output in self._outputs or any(reader.name in needed for reader in self._readers.get(output, []))
        ]
        content = self._model(name, nodes, list(read), given)
        return OnnxPart(file=plan_file(name, content), inputs=tuple(read), outputs=tuple(given)), content

    def _model(self, name: str, nodes: Sequence[NodeProto], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        names = {tensor for node in nodes for tensor in read_by(node)}
        constants = [tensor for tensor in self._graph.initializer if tensor.name in names]
        graph = helper.make_graph(
            list(nodes), name, [self._types[i] for i in inputs], [self._types[o] for o in outputs], constants
        )
        copy = ModelProto()
        copy.CopyFrom(self._proto)
        copy.graph.CopyFrom(graph)
        return copy.SerializeToString()

    @cached_property
    def _types(self) -> dict[str, ValueInfoProto]:
        """Return what is known of each tensor; recurrent layers give and take FP32."""
        inferred = onnx.shape_inference.infer_shapes(self._proto).graph
        known = {value.name: value for value in (*inferred.value_info, *inferred.input, *inferred.output)}
        for layer in self._chosen.values():
            for name in (layer.node.input[0], *layer.node.output):
                known.setdefault(name, helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        return known

    def _float_model(self, node: NodeProto) -> bytes:
        """Return the node alone, in FP32, with the inputs and outputs of its part."""
        part = self._recurrent_part(node)
        copy = NodeProto()
        copy.CopyFrom(node)
        nodes = [copy]
        if part.lengths is not None:
            cast = helper.make_node("Cast", [part.lengths], [f"{part.lengths}_int32"], to=TensorProto.INT32)
            copy.input[LENGTHS] = cast.output[0]
            nodes.insert(0, cast)
        del copy.output[:]
        copy.output.extend([part.y or "", part.y_h or "", part.y_c or ""][: 3 if node.op_type == "LSTM" else 2])
        return self._model(node.name, nodes, list(dict.fromkeys(part.inputs)), part.outputs)
