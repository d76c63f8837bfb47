"""What an expression asks for and what its result looks like, told without a Prometheus."""

from collections.abc import Iterator, Mapping

import promql_parser as promql

TARGET_LABELS = frozenset({"namespace", "job", "pod", "instance", "service", "container", "endpoint"})
"""What the Prometheus Operator adds to all that it scrapes through a ServiceMonitor."""


class UnknownError(Exception):
    """An expression names a metric or a label that nothing has."""


def selectors(expression: str) -> Iterator[promql.VectorSelector]:
    """Yield each selection of series."""
    found: list[promql.VectorSelector] = []

    def note(node: promql.Expr) -> None:
        if isinstance(node, promql.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql.VectorSelector):
            found.append(node)

    promql.walk(promql.parse(expression), note)
    yield from found


def labels_of(expression: str, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the labels that the result may have.

    Args:
        expression: PromQL.
        known: the labels of each metric that there is.

    Raises:
        UnknownError: it names a metric that there is not, or a label that what it is applied to has not.
    """
    return _Labels(known).of(promql.parse(expression))


class _Labels:
    def __init__(self, known: Mapping[str, frozenset[str]]) -> None:
        self._known = known

    def of(self, node: promql.Expr) -> frozenset[str]:
        match node:
            case promql.VectorSelector():
                return self._selected(node)
            case promql.ParenExpr():
                return self.of(node.expr)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.BinaryExpr():
                return self._joined(node)
            case promql.Call():
                return self._called(node)
        assert isinstance(node, promql.NumberLiteral), f"nothing here is written with {type(node).__name__}"
        return frozenset()

    def _selected(self, node: promql.VectorSelector) -> frozenset[str]:
        if node.name not in self._known:
            raise UnknownError(f"there is no metric {node.name}")
        has = self._known[node.name]
        _check({matcher.name for matcher in node.matchers.matchers}, has, node.name)
        return has

    def _aggregated(self, node: promql.AggregateExpr) -> frozenset[str]:
        inner = self.of(node.expr)
        if str(node.op) in {"topk", "bottomk"}:
            return inner
        if node.modifier is None:
            return frozenset()
        assert node.modifier.type == promql.AggModifierType.By, "nothing here is written with `without`"
        _check(node.modifier.labels, inner, node.prettify())
        return frozenset(node.modifier.labels)

    def _joined(self, node: promql.BinaryExpr) -> frozenset[str]:
        left, right = self.of(node.lhs), self.of(node.rhs)
        modifier = node.modifier
        on = None if modifier is None or modifier.matching is None else frozenset(modifier.matching.labels)
        if on is not None:
            _check(on, left & right, node.prettify())
        elif left and right and left != right:
            raise UnknownError(f"sides have {sorted(left)} and {sorted(right)}, and never match: {node.prettify()}")
        if str(node.op) == "or":
            return left | right
        one_to_one = modifier is None or modifier.card == promql.VectorMatchCardinality.OneToOne
        if on is not None and one_to_one and str(node.op) in {"+", "-", "*", "/", "%", "^"}:
            return on
        return left or right

    def _called(self, node: promql.Call) -> frozenset[str]:
        inner: frozenset[str] = frozenset()
        for argument in node.args:
            inner |= self.of(argument.vector_selector if isinstance(argument, promql.MatrixSelector) else argument)
        if node.func.name == "histogram_quantile":
            _check({"le"}, inner, node.prettify())
            return inner - {"le"}
        if node.func.name == "absent":
            return frozenset(matcher.name for each in selectors(node.prettify()) for matcher in each.matchers.matchers)
        return inner


def _check(named: "set[str] | frozenset[str] | list[str]", has: frozenset[str], where: str) -> None:
    if unknown := set(named) - has:
        raise UnknownError(f"no label {', '.join(sorted(unknown))} in {where}")
