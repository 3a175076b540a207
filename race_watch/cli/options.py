"""Options that several commands share, and how they override the environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from race_watch.settings import Settings, from_env

_OPTIONS = (
    click.option("--metrics-host", metavar="ADDRESS", help="Address of /metrics [127.0.0.1; 0.0.0.0 lets others scrape]."),
    click.option("--metrics-port", type=click.IntRange(0, 65535), help="Port of /metrics [9464; 0 takes a free one]."),
    click.option("--incidents", type=click.Path(dir_okay=False), help="Append incidents to this file, as JSON lines."),
    click.option("--quiet", "-q", is_flag=True, help="Print neither incidents nor a summary."),
)


def outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of what a watcher serves and writes."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def merged(**given: Any) -> Settings:
    """The environment's settings with the options that were given."""
    chosen = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(from_env(), **chosen)
