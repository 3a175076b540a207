"""`race-watch signatures`: the known races."""

from __future__ import annotations

import click

from race_watch.signatures import SIGNATURES
from race_watch.signatures.record import Form


@click.command()
@click.argument("name", required=False)
def signatures(name: str | None) -> None:
    """List the known races, or show the one called NAME."""
    if name is None:
        width = max(len(signature.id) for signature in SIGNATURES)
        for signature in SIGNATURES:
            form = signature.forms[0]
            fixed = f"fixed in {form.fixed_in}" if form.fixed_in else "no fix"
            click.echo(f"{signature.id:<{width}}  {signature.package} {_versions(form)} ({fixed})  {signature.title}")
        return
    chosen = next((signature for signature in SIGNATURES if signature.id == name), None)
    if chosen is None:
        raise click.ClickException(f"no signature {name!r}; `race-watch signatures` lists them")
    click.echo(f"{chosen.id}\n  {chosen.title}\n  upstream: {chosen.upstream or 'no report found'}\n  {chosen.advice}")
    for form in chosen.forms:
        fixed = f"fixed in {form.fixed_in}" if form.fixed_in else "no fix"
        click.echo(f"  {form.category} ({form.verdict}): {chosen.package} {_versions(form)}, {fixed}")
        if form.note:
            click.echo(f"    {form.note}")


def _versions(form: Form) -> str:
    return form.affected or "any version"
