"""Who exports: the attributes that every span, log record and metric of one worker carries."""

from __future__ import annotations

import hashlib
import uuid

from race_watch import __version__
from race_watch.exporters.otel.variables import Variables
from race_watch.settings import Settings

SERVICE_NAME = "livekit-worker"


def attributes(key: bytes, settings: Settings, variables: Variables) -> dict[str, str]:
    """The resource of the worker whose run directory has this key.

    `service.instance.id` follows from the key, so it is one for all processes of a worker and stays over a restart of the
    watcher; workers of one container, which share their environment, are told apart unless that environment names one.
    """
    instance = uuid.UUID(bytes=hashlib.blake2b(key, digest_size=16, person=b"race_watch.inst").digest(), version=4)
    found = {
        "service.name": SERVICE_NAME,
        "service.instance.id": str(instance),
        **variables.pairs("OTEL_RESOURCE_ATTRIBUTES"),
    }
    if variables.text("OTEL_SERVICE_NAME"):
        found["service.name"] = variables.text("OTEL_SERVICE_NAME")
    own = Variables({"RACE_WATCH_OTLP_RESOURCE": settings.otlp_resource}, variables.problems)
    found.update(own.pairs("RACE_WATCH_OTLP_RESOURCE"))
    return {
        **found,
        "telemetry.sdk.name": "race_watch",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        "telemetry.distro.name": "race_watch",
        "telemetry.distro.version": __version__,
    }
