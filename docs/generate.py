"""Writes docs/metrics.md from the metric catalogue; with --check only says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from race_watch import metrics

PAGE = Path(__file__).with_name("metrics.md")

_HEAD = """\
# Metrics

Generated from `race_watch/metrics.py` by `make docs`; `make check` fails where the two differ.

Served at `/metrics` as Prometheus text or OpenMetrics, whichever the scraper asks for, from a registry of its own, and sent by
OTLP under the OpenTelemetry names. A worker has at most {series} series of these, however many rooms, people and processes
it has seen: labels come from the closed sets below, and no room, participant, pid, task or message is ever in one. Every label
set is there at 0 from the start, so that `increase()` sees the first incident. There are no `_created` series.

Processes that have ended are counted on: counters never fall while the watcher runs. Gauges are of the processes that live.
"""

_TAIL = """\
## Exemplars

In OpenMetrics {exemplars} carry the `trace_id` and `span_id` of the
latest incident of that label set: its own span where incidents are exported over OTLP, else the application's, where it uses
OpenTelemetry. Prometheus keeps them with `--enable-feature=exemplar-storage`.

## The process that serves

`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_start_time_seconds`,
`process_open_fds` and `process_max_fds` are of the process that answers: race_watch itself under `race-watch run` and `watch`,
the worker where the watcher is a thread of it. They are not put into the worker's own registry, which has them already.
"""


def page() -> str:
    """The whole page."""
    series = sum(len(metric.sets) + metric.others for metric in metrics.CATALOGUE)
    parts = [_HEAD.format(series=series), "| metric | OpenTelemetry | type | labels | what |", "|---|---|---|---|---|"]
    for metric in metrics.CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        parts.append(f"| `{exposed(metric)}` | `{metric.otel_name}` | {metric.kind} | {labels} | {metric.help} |")
    for metric in metrics.CATALOGUE:
        if metric.labels and not metric.others:
            parts += ["", *_sets(metric)]
    info = ", ".join(f"`{label}`" for label in metrics.BUILD_LABELS)
    parts += [
        "",
        f"`{exposed(metrics.BUILD_INFO)}` has the versions found, in {info}: at most {metrics.BUILDS_MAX} combinations.",
    ]
    traced = f"`{exposed(metrics.INCIDENTS)}`"
    return "\n".join([*parts, "", _TAIL.format(exemplars=traced)])


def exposed(metric: metrics.Metric) -> str:
    """The name of its samples."""
    return metric.name + ("_total" if metric.kind == "counter" else "")


def _sets(metric: metrics.Metric) -> list[str]:
    head = [f"## Label sets of `{exposed(metric)}`", ""]
    if metric.sets == metrics.INCIDENTS.sets and metric is not metrics.INCIDENTS:
        return [*head, f"Those of `{exposed(metrics.INCIDENTS)}`."]
    if len(metric.labels) == 1:
        return [*head, f"`{metric.labels[0]}`: " + ", ".join(f"`{values[0]}`" for values in metric.sets)]
    rows = ["| " + " | ".join(f"`{value}`" for value in values) + " |" for values in metric.sets]
    return [*head, "| " + " | ".join(metric.labels) + " |", "|" + "---|" * len(metric.labels), *rows]


def main() -> int:
    made = page()
    if "--check" not in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == made:
        return 0
    print("docs/metrics.md is not what the catalogue says; run `make docs`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
