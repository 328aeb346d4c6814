"""`waypost events`: everything that changed, one line each."""

from __future__ import annotations

import click

from gslb.fleet.views import EventRecord
from ops.cli import tables
from ops.cli.seat import seat, shared_options


@click.command()
@click.option("--follow", is_flag=True, help="Go on with each new event, until interrupted.")
@click.option(
    "--since", type=click.IntRange(min=0), default=0, metavar="NUMBER", help="After this event."
)
@shared_options
def events(*, follow: bool, since: int) -> None:
    """Show what changed, one line each.

    Health, drains, rings, configuration, store.
    """
    here = seat()
    for reply in here.client().events(since=since, follow=follow):
        here.show(reply, draw_event)


def draw_event(view: EventRecord) -> str:
    """One line: number, moment, name, details."""
    details = "".join(f" {key}={_quoted(value)}" for key, value in view.detail.items())
    return f"{view.number}  {tables.instant(view.at_s)}  {view.name}{details}\n"


def _quoted(value: str) -> str:
    """The value, in quotes where it is empty or holds a space, as logfmt does."""
    if value and not any(character in value for character in ' "='):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
