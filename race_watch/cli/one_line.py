"""What is wrong with a command line, in one line like every other problem that race_watch reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from race_watch.service import warn


class OneLineErrors(click.Group):
    """A group whose commands fail with one line instead of their usage; exit statuses are click's."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _in_one_line():
            return super().invoke(ctx)


class _OneLine(click.ClickException):
    def __init__(self, error: click.ClickException) -> None:
        message = " ".join(error.format_message().split())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            message += f" ({error.ctx.command_path} --help)"
        super().__init__(message)
        self.exit_code = error.exit_code  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        warn(self.message)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        # Without any argument click shows the help by way of an error (8.2 on).
        if isinstance(error, _OneLine) or type(error).__name__ == "NoArgsIsHelpError":
            raise
        raise _OneLine(error) from None
