"""Options that several commands share, and how they override the environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from race_watch.settings import Settings, from_env


def _on_or_off(_: click.Context, __: click.Parameter, given: bool | None) -> str | None:
    return None if given is None else "on" if given else "off"


_OPTIONS = (
    click.option("--metrics-host", metavar="ADDRESS", help="Address of /metrics [127.0.0.1; 0.0.0.0 lets others scrape]."),
    click.option("--metrics-port", type=click.IntRange(0, 65535), help="Port of /metrics [9464; 0 takes a free one]."),
    click.option("--metrics-token-file", metavar="FILE", help="Requests need the bearer token in FILE."),
    click.option("--metrics-tls-cert", metavar="FILE", help="Serve HTTPS with this certificate chain, PEM."),
    click.option("--metrics-tls-key", metavar="FILE", help="Private key of the certificate, PEM."),
    click.option("--otlp/--no-otlp", default=None, callback=_on_or_off, help="Export over OTLP [if an endpoint is named]."),
    click.option("--otlp-endpoint", metavar="URL", help="The collector [OTEL_EXPORTER_OTLP_ENDPOINT]."),
    click.option("--incidents", type=click.Path(dir_okay=False), help="Append incidents to this file, as JSON lines."),
    click.option("--quiet", "-q", is_flag=True, help="Print neither incidents nor a summary."),
)


def with_outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of what a watcher serves and writes."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def merged(**given: Any) -> Settings:
    """The environment's settings with the options that were given."""
    chosen = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(from_env(), **chosen)
