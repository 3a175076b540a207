"""The way in for OpenTelemetry's auto-instrumentation and its Kubernetes operator: entry point `opentelemetry_instrumentor`.

Source: opentelemetry-instrumentation 0.66b1, `auto_instrumentation/_load.py:_load_instrumentors` loads each entry point, calls
`instrument()` on an instance, and gives up on all of them when one raises. No OpenTelemetry is imported here.
"""

from __future__ import annotations

import os
import sys


class RaceWatchInstrumentor:
    """What the bootstrap does, asked for by another."""

    def instrument(self, **_: object) -> None:
        from race_watch import launch, post_import

        if sys.version_info < (3, 10) or launch.switched_off():
            return
        try:
            post_import.watch()
        except Exception:  # noqa: BLE001 - it would end everybody's instrumentation
            if os.environ.get("RACE_WATCH_DEBUG", "0") not in ("", "0"):
                import traceback

                traceback.print_exc()
