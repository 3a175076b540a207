"""A livekit-agents worker that serves its own /metrics: `python metrics_worker.py start`, on a free port that it logs.

With SAMPLES, a directory, in multiprocess mode. A job connects, tells what its own registry has of race_watch, and ends.
"""

from __future__ import annotations

import logging
import math
import os

from livekit.agents import AgentServer, JobContext, cli
from prometheus_client import REGISTRY, Counter

logger = logging.getLogger("metrics-worker")
calls = Counter("worker_calls", "Calls that were taken.")


async def entrypoint(ctx: JobContext) -> None:
    calls.inc()
    await ctx.connect()
    names = [family.name for family in REGISTRY.collect() if family.name.startswith("race_watch_")]
    ours = [repr(collector) for collector in REGISTRY._collector_to_names if "race_watch" in type(collector).__module__]
    logger.info("registry of the job", extra={"ours": names + ours})
    ctx.shutdown(reason="told")


def unloaded() -> float:
    return 0.0


def main() -> None:
    server = AgentServer(
        host="127.0.0.1",
        port=0,
        prometheus_port=0,
        prometheus_multiproc_dir=os.environ.get("SAMPLES"),
        num_idle_processes=1,
        load_threshold=math.inf,
        load_fnc=unloaded,
    )
    server.rtc_session(entrypoint)
    cli.run_app(server)


if __name__ == "__main__":
    main()
