"""What a query reads: its selectors, and the names of what they select."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
)


@dataclass(frozen=True)
class Selector:
    """`above` are the names of the functions around it, innermost first; `ranged` that it has a window."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    above: tuple[str, ...]
    ranged: bool

    def label(self, name: str) -> str | None:
        """`=~value` of a label that is asked for."""
        return next((f"{op}{value}" for label, op, value in self.matchers if label == name), None)


def parse(expr: str) -> Expr:
    """Raises ValueError for what is no PromQL."""
    return promql_parser.parse(expr)


def selectors(expr: str) -> list[Selector]:
    """The selectors of a query, in order. Grafana's variables in label values stay; durations must be filled in."""
    return list(_walk(parse(expr), ()))


def labels(expr: str) -> set[str]:
    """The labels that a query names in by, on, group_left and the like."""
    found = re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right) ?\(([^()]*)\)", expr)
    return {label.strip() for names in found for label in names.split(",") if label.strip()}


def _walk(node: Any, above: tuple[str, ...]) -> Iterator[Selector]:
    if isinstance(node, VectorSelector):
        yield _selector(node, above, ranged=False)
    elif isinstance(node, MatrixSelector):
        yield _selector(node.vector_selector, above, ranged=True)
    elif isinstance(node, Call):
        for argument in node.args:
            yield from _walk(argument, (node.func.name, *above))
    elif isinstance(node, AggregateExpr):
        yield from _walk(node.expr, (str(node.op), *above))
    elif isinstance(node, BinaryExpr):
        yield from _walk(node.lhs, above)
        yield from _walk(node.rhs, above)
    elif isinstance(node, (ParenExpr, UnaryExpr, SubqueryExpr)):
        yield from _walk(node.expr, above)


def _selector(node: VectorSelector, above: tuple[str, ...], *, ranged: bool) -> Selector:
    matchers = tuple((matcher.name, _OPERATORS[str(matcher.op)], matcher.value) for matcher in node.matchers.matchers)
    return Selector(node.name or "", matchers, above, ranged)


_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
