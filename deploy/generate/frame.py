"""What all boards share: variables, links between them, annotations, and the places of their panels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploy.generate.options import Options
from deploy.generate.panels import DATASOURCE, Json, Row

TAG = "race-watch"
_COLUMNS = 24
# Kept from board to board; the data source is one of them.
KEPT = "${datasource:queryparam}&${__url_time_range}"


class Selectors:
    """The matchers of the variables. `raw` selects workers' own series, `recorded` what is recorded of whole fleets."""

    def __init__(self, options: Options, *, pods: bool = False) -> None:
        of_fleet = f'{options.cluster}=~"$cluster", namespace=~"$namespace", job=~"$job"'
        pod = ', pod=~"$pod"' if pods else ""
        self._recorded = of_fleet
        self._raw = f'{of_fleet}, instance=~"$instance"{pod}'

    def raw(self, metric: str, more: str = "") -> str:
        return _selector(metric, self._raw, more)

    def recorded(self, metric: str, more: str = "") -> str:
        return _selector(metric, self._recorded, more)


def _selector(metric: str, matchers: str, more: str) -> str:
    return f"{metric}{{{matchers}{', ' + more if more else ''}}}"


def variables(options: Options, *, pods: bool = False, more: Sequence[Json] = ()) -> list[Json]:
    """Data source, cluster, namespace, job, pod, instance: each narrows the next."""
    found = "race_watch_processes"
    narrowed = f'{options.cluster}=~"$cluster", namespace=~"$namespace", job=~"$job"'
    pod = [_variable("pod", f"label_values({found}{{{narrowed}}}, pod)", ".*")] if pods else []
    of_pod = ', pod=~"$pod"' if pods else ""
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "options": [],
            "refresh": 1,
            "regex": "",
            "hide": 0,
            "includeAll": False,
            "multi": False,
        },
        # A fleet need not have a cluster, a namespace or a pod: an absent label is matched by .*
        _variable("cluster", f"label_values({found}, {options.cluster})", ".*"),
        _variable("namespace", f'label_values({found}{{{options.cluster}=~"$cluster"}}, namespace)', ".*"),
        _variable("job", f'label_values({found}{{{options.cluster}=~"$cluster", namespace=~"$namespace"}}, job)', ".+"),
        *pod,
        _variable("instance", f"label_values({found}{{{narrowed}{of_pod}}}, instance)", ".+"),
        *more,
    ]


def _variable(name: str, query: str, all_value: str) -> Json:
    return {
        **choice(name, query),
        "allValue": all_value,
        "current": {"text": ["All"], "value": ["$__all"]},
        "includeAll": True,
        "multi": True,
    }


def choice(name: str, query: str) -> Json:
    """A variable of which one value is chosen."""
    return {
        "name": name,
        "label": name.title(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "Variable"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "regex": "",
        "current": {},
        "options": [],
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "skipUrlSync": False,
    }


def annotation(name: str, expr: str, title: str, color: str) -> Json:
    """Marks the times at which a query has series."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "titleFormat": title,
        "step": "60s",
        "useValueForTime": False,
    }


def version_changes(selectors: Selectors) -> Json:
    """Marks when the first worker of a fleet came with versions that none had ten minutes before."""
    builds = selectors.recorded("job_build:race_watch_workers:count")
    labels = "(job, version, livekit, livekit_agents)"
    expr = f"count by {labels} ({builds}) unless count by {labels} ({builds} offset 10m)"
    title = "{{job}}: livekit {{livekit}}, livekit-agents {{livekit_agents}}, race_watch {{version}}"
    return annotation("New versions", expr, title, "blue")


def dashboard(
    options: Options,
    uid: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    variables: list[Json],
    annotations: list[Json],
) -> Json:
    """The whole board; panels get their places and ids in the order of the rows."""
    return {
        "uid": f"race-watch-{uid}",
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "weekStart": "",
        "liveNow": False,
        "templating": {"list": variables},
        "annotations": {"list": annotations},
        "links": _links(options),
        "panels": _placed(rows),
    }


def _links(options: Options) -> list[Json]:
    return [
        {
            "type": "dashboards",
            "title": "race_watch",
            "tags": [TAG],
            "asDropdown": True,
            "includeVars": True,
            "keepTime": True,
            "targetBlank": False,
            "icon": "external link",
            "tooltip": "",
            "url": "",
        },
        {
            "type": "link",
            "title": "Runbooks",
            "url": f"{options.runbooks}/README.md",
            "tags": [],
            "asDropdown": False,
            "includeVars": False,
            "keepTime": False,
            "targetBlank": True,
            "icon": "doc",
            "tooltip": "What each alert means and what to do about it",
        },
    ]


def _placed(rows: Sequence[Row]) -> list[Json]:
    found: list[Json] = []
    ids = iter(range(1, 1000))
    y = 0
    for row in rows:
        head: Json = {
            "type": "row",
            "title": row.title,
            "collapsed": row.collapsed,
            "id": next(ids),
            "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
            "panels": [],
        }
        found.append(head)
        y += 1
        inside = head["panels"] if row.collapsed else found
        y = _fill(row, y, inside, ids)
    return found


def _fill(row: Row, y: int, into: list[Json], ids: Iterator[int]) -> int:
    """Left to right, a new line where the next does not fit; returns the first free line below."""
    x = deepest = 0
    for panel in row.panels:
        if x + panel.width > _COLUMNS:
            x, y, deepest = 0, y + deepest, 0
        place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        into.append({**panel.content, "id": next(ids), "gridPos": place})
        x, deepest = x + panel.width, max(deepest, panel.height)
    return y + deepest
