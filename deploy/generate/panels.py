"""Panels of Grafana's classic dashboards, schema 39: what Grafana 11, 12 and 13 read. Only kinds that exist in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
# Grafana's palette assigns by name, so that a signature has one colour on every board.
_BY_NAME: Json = {"mode": "palette-classic-by-name"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel and the room it takes: `width` of 24 columns, `height` in rows of 30 pixels."""

    content: Json
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading; a collapsed one is for the second look."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A query. `legend` is a template of labels; `exemplars` asks for the traces behind a rate."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: of which field, under which title, in which unit, leading where. A hidden one serves links only."""

    field: str
    title: str
    unit: str = ""
    links: Sequence[Json] = ()
    decimals: int | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """How numbers are shown. `steps` are (from, colour), the first from None."""

    unit: str = "short"
    steps: Sequence[tuple[float | None, str]] = ((None, BLUE),)
    decimals: int | None = None
    links: Sequence[Json] = ()

    def defaults(self) -> Json:
        found: Json = {"unit": self.unit, "thresholds": _thresholds(self.steps)}
        if self.decimals is not None:
            found["decimals"] = self.decimals
        if self.links:
            found["links"] = list(self.links)
        return found


def bad_from(number: float, color: str = RED) -> tuple[tuple[float | None, str], ...]:
    """Green below `number`."""
    return ((None, GREEN), (number, color))


def stat(
    title: str, description: str, expr: str, look: Look, width: int = 3, *, spark: bool = True, none: str = "none"
) -> Panel:
    """One number. `none` is what is shown where there is no series."""
    look_of_it = {**look.defaults(), "color": {"mode": "thresholds"}, "noValue": none}
    content = _panel("stat", title, description, [Query(expr)], look_of_it, instant=not spark)
    content["options"] = {
        "colorMode": "value",
        "graphMode": "area" if spark else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    }
    return Panel(content, width, 4)


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    look: Look,
    width: int = 12,
    *,
    stacked: bool = False,
    bars: bool = False,
    height: int = 8,
    recorded: bool = False,
) -> Panel:
    """Values over time, with a table of last, mean and highest as its legend.

    `recorded`: they are recorded once a minute, so that a finer resolution would find nothing.
    """
    custom = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 10,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if len(look.steps) > 1 else "off"},
    }
    defaults = {**look.defaults(), "custom": custom, "color": _BY_NAME, "min": 0, "noValue": "none"}
    content = _panel("timeseries", title, description, queries, defaults)
    content["options"] = {
        "legend": {"calcs": ["lastNotNull", "mean", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if recorded:
        content["interval"] = "1m"
    return Panel(content, width, height)


def table(
    title: str, description: str, expr: str, columns: Sequence[Column], width: int = 24, *, height: int = 8, sort: str = ""
) -> Panel:
    """The latest values of a query as a table, of these columns in this order; `sort` is the title of one, highest first."""
    content = _panel("table", title, description, [Query(expr)], {"unit": "short", "noValue": "none"}, instant=True)
    content["targets"][0]["format"] = "table"
    content["fieldConfig"]["overrides"] = [_override(column) for column in columns]
    content["options"] = {
        "cellHeight": "sm",
        "showHeader": True,
        "sortBy": [{"displayName": sort, "desc": True}] if sort else [],
    }
    content["transformations"] = [
        {"id": "filterFieldsByName", "options": {"include": {"names": [column.field for column in columns]}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "indexByName": {column.field: place for place, column in enumerate(columns)},
                "renameByName": {column.field: column.title for column in columns},
            },
        },
    ]
    return Panel(content, width, height)


def link(title: str, url: str, *, elsewhere: bool = False) -> Json:
    """A data link."""
    return {"title": title, "url": url, "targetBlank": elsewhere}


def _panel(kind: str, title: str, description: str, queries: Sequence[Query], defaults: Json, *, instant: bool = False) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [_target(query, chr(ord("A") + place), instant) for place, query in enumerate(queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }


def _target(query: Query, letter: str, instant: bool) -> Json:
    target: Json = {
        "refId": letter,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": instant,
        "range": not instant,
    }
    return {**target, "exemplar": True} if query.exemplars else target


def _override(column: Column) -> Json:
    properties: list[Json] = []
    if column.unit:
        properties.append({"id": "unit", "value": column.unit})
    if column.links:
        properties.append({"id": "links", "value": list(column.links)})
    if column.decimals is not None:
        properties.append({"id": "decimals", "value": column.decimals})
    if column.hidden:
        properties.append({"id": "custom.hidden", "value": True})
    return {"matcher": {"id": "byName", "options": column.title}, "properties": properties}


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}
