"""What queries may name: the catalogue, what is recorded, and what Prometheus has for every target."""

from __future__ import annotations

import re
from functools import cache

import promql
from rule_files import rules

from race_watch import metrics
from race_watch.findings import CATEGORIES, VERDICTS

# Those of the target. A scrape need not have all of them.
TARGET = {"cluster", "namespace", "job", "instance", "pod"}
# Of the target too, and of the process that serves it.
PROMETHEUS = {"up", "scrape_duration_seconds", "scrape_samples_post_metric_relabeling"}
PROCESS = {"process_resident_memory_bytes", "process_start_time_seconds"}
_ALERT_LABELS = {"alertname", "alertstate", "severity", "about"}


@cache
def metric_labels() -> dict[str, frozenset[str]]:
    """Name of a series -> its labels, those of the target included."""
    known = {
        metric.name + ("_total" if metric.kind == "counter" else ""): frozenset({*TARGET, *metric.labels})
        for metric in metrics.CATALOGUE
    }
    known |= {name: frozenset(TARGET) for name in PROMETHEUS | PROCESS}
    known["ALERTS"] = frozenset({*TARGET, *_ALERT_LABELS})
    return known | {name: frozenset(labels) for name, labels in _recorded().items()}


def _recorded() -> dict[str, set[str]]:
    """Name of a recorded series -> the labels that its rule keeps, sets or takes over from another one."""
    found: dict[str, set[str]] = {}
    for rule in rules("record"):
        read = [selector.name for selector in promql.selectors(rule["expr"])]
        kept = promql.labels(rule["expr"]).union(*(found.get(name, set()) for name in read))
        found.setdefault(rule["record"], set()).update(kept, rule.get("labels", {}))
    return found


@cache
def label_values() -> dict[str, frozenset[str]]:
    """Label -> the values that it can have, of those that are closed."""
    found: dict[str, set[str]] = {"category": set(CATEGORIES), "verdict": set(VERDICTS)}
    for metric in metrics.CATALOGUE:
        for labels in metric.sets:
            for label, value in zip(metric.labels, labels, strict=True):
                found.setdefault(label, set()).add(value)
    return {label: frozenset(values) for label, values in found.items()}


def unknown_in(expr: str) -> list[str]:
    """Metrics, labels and label values in a query that nothing has."""
    known, values = metric_labels(), label_values()
    selected = promql.selectors(expr)
    found = [selector.name for selector in selected if selector.name not in known]
    every: set[str] = set()
    for selector in selected:
        labels = known.get(selector.name, frozenset())
        every |= labels
        for label, op, value in selector.matchers:
            if label not in labels:
                found.append(f"{selector.name}{{{label}}}")
            elif label in values and value and not any(re.fullmatch(value, one) for one in values[label]):
                found.append(f"{label}{op}{value}")
            elif label in values and op in ("=~", "!~") and re.fullmatch(r"[\w|-]+", value):
                found += [f"{label}{op}{one}" for one in value.split("|") if one not in values[label]]
    made = set(re.findall(r'label_replace\(.*?, "(\w+)"', expr, re.DOTALL))
    found += sorted(label for label in promql.labels(expr) if label not in every | made)
    return found
