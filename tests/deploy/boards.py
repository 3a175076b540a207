"""The dashboards as they are checked in, and their queries with Grafana's variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_tools import DASHBOARDS

BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
_VARIABLE = re.compile(r"\$\{?(\w+)")


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels, those in collapsed rows too, rows left out."""
    found = []
    for panel in board["panels"]:
        found += [panel] if panel["type"] != "row" else panel["panels"]
    return found


@dataclass(frozen=True)
class Asked:
    """A query of a board. `where` is "board: panel", "board: annotation NAME" or "board: variable NAME"."""

    where: str
    expr: str
    instant: bool
    exemplars: bool = False


def asked(name: str) -> Iterator[Asked]:
    """Every query of a board."""
    board = BOARDS[name]
    for panel in panels(board):
        for target in panel.get("targets", []):
            yield Asked(f"{name}: {panel['title']}", target["expr"], target["instant"], "exemplar" in target)
    for annotation in board["annotations"]["list"]:
        yield Asked(f"{name}: annotation {annotation['name']}", annotation["expr"], False)
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            selector = re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"])
            assert selector is not None, variable
            yield Asked(f"{name}: variable {variable['name']}", selector[1], True)


def filled(expr: str, **values: str) -> str:
    """The query with Grafana's variables filled in; `All` unless a value is given."""
    known = {"cluster": ".*", "namespace": ".*", "pod": ".*", "job": ".+", "instance": ".+", "signature": ".+"}
    known |= {"__rate_interval": "4m", "__range": "6h", "__interval": "1m"} | values
    return _VARIABLE.sub(lambda match: known[match[1]], expr)
