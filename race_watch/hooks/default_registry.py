"""The worker's own /metrics: the watcher's numbers among its own, where a setting asks for them, in the worker's main process.

The watcher leaves them in a file of the run directory; a collector reads it in the thread of whoever scrapes. In
prometheus_client's multiprocess mode it is not the default registry that is served, but one that is made for each scrape.
Source: prometheus_client 0.22 to 0.26 `registry.py:CollectorRegistry.register, collect`,
`multiprocess.py:MultiProcessCollector.__init__`; livekit-agents 1.5 to 1.8 `telemetry/http_server.py:metrics`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from race_watch.clock import monotonic_s
from race_watch.guard import Guard
from race_watch.hooks.context import Context
from race_watch.hooks.patching import Patches
from race_watch.journal.layout import METRICS_FILE

NAME = "default_registry"
TARGET = "prometheus_client"
ALSO = ("prometheus_client.multiprocess",)
SUPPORTED = "prometheus_client 0.22 to 0.26"

# Older numbers are those of a watcher that is gone or stands still.
STALE_S = 60.0


class WatcherMetrics:
    """A collector that has what the watcher left, and nothing where that cannot be had.

    Args:
        metric: prometheus_client's class of a family.
    """

    def __init__(self, run_dir: str, metric: Any, guard: Guard) -> None:
        self._path = os.path.join(run_dir, METRICS_FILE)
        self._metric = metric
        # A fork inherits the registry; were it served or pushed from there too, everything would be there twice.
        self._pid = os.getpid()
        self._guarded = guard.wrap(self._read)

    def describe(self) -> tuple[()]:
        """Without it a registry would collect at once, to learn the names."""
        return ()

    def collect(self) -> list[Any]:
        """The families, in the order of the catalogue. What is raised here would cost the host its whole scrape."""
        families: list[Any] = []
        if os.getpid() == self._pid:
            self._guarded(families)
        return families

    def _read(self, families: list[Any]) -> None:
        try:
            with open(self._path, encoding="utf-8") as file:
                left = json.load(file)
        except OSError:  # no watcher yet, or none any more
            return
        if monotonic_s() - left["made_s"] <= STALE_S:
            families += [self._family(*family) for family in left["families"]]

    def _family(self, name: str, help: str, kind: str, samples: list[tuple[str, dict[str, str], float]]) -> Any:
        family = self._metric(name, help, kind)
        for sample in samples:
            family.add_sample(*sample)
        return family


def install(context: Context, module: Any, patches: Patches, guard: Guard) -> None:
    """Registers the collector, or wraps what makes the registries of multiprocess mode."""
    metrics = WatcherMetrics(context.run_dir, module.Metric, guard)
    if hasattr(module, "MultiProcessCollector"):
        _join(metrics, module, patches, guard)
        return
    module.REGISTRY.register(metrics)

    def leave() -> None:
        with suppress(KeyError):  # the host has emptied its registry
            module.REGISTRY.unregister(metrics)

    patches.on_undo(leave)


def _join(metrics: WatcherMetrics, module: Any, patches: Patches, guard: Guard) -> None:
    default = sys.modules[TARGET].REGISTRY
    register = guard.wrap(lambda registry: registry.register(metrics))

    def wrap(original: Callable[..., None]) -> Callable[..., None]:
        def __init__(self: Any, registry: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(self, registry, *args, **kwargs)
            if registry and registry is not default:
                register(registry)

        return __init__

    patches.replace(module.MultiProcessCollector, "__init__", wrap)
