"""`waypost plan`: what a change would do to flows, before it is made."""

from __future__ import annotations

import click

from gslb.fleet.views import PlanView
from ops.cli import tables
from ops.cli.complete import complete_real
from ops.cli.seat import seat, shared_options
from ops.cli.tables import Style


@click.command()
@click.option(
    "--drain", multiple=True, metavar="REAL", shell_complete=complete_real, help="As if drained."
)
@click.option(
    "--down", multiple=True, metavar="REAL", shell_complete=complete_real, help="As if dead."
)
@click.option("--weight", multiple=True, metavar="REAL=N", help="As if its weight were N.")
@shared_options
def plan(*, drain: tuple[str, ...], down: tuple[str, ...], weight: tuple[str, ...]) -> None:
    """Show how many flows a change would move, before it is made.

    Without an option: what a reload of the fleet.toml on the edge's disk would change. With
    options, which may be repeated: what they say, on top of the running configuration.
    """
    here = seat()
    said = {"drain": drain, "down": down, "weight": weight}
    params = {key: ",".join(words) for key, words in said.items() if words}
    reply = here.client("edge").show("/plan", PlanView, **params)
    here.show(reply, lambda view: draw_plan(view, here.style))


def draw_plan(view: PlanView, style: Style) -> str:
    """The sum, a line for each VIP that changes, and when entries of chains end."""
    if not view.vips:
        return f"{view.subject}: nothing changes\n"
    moved, total = tables.count(view.slots, style), tables.count(view.slots_total, style)
    columns = (
        *tables.left("VIP"),
        *tables.right("SLOTS", "SHARE", "FLOWS", "GROW", "FULL"),
        *tables.left("CHANGE"),
    )
    cells = [
        (
            row.vip,
            tables.count(row.slots, style),
            _percent(row.share),
            tables.count(row.flows, style),
            tables.count(row.chains_grow, style),
            tables.count(row.chains_full, style),
            f"{row.change}; NO REAL LEFT" if row.emptied else row.change,
        )
        for row in view.vips
    ]
    flows = "an unknown number of" if view.flows < 0 else tables.count(view.flows, style)
    ends = "".join(
        f"{row.vip}: {tables.count(end.entries, style)} candidates leave their chains at"
        f" {tables.instant(end.at_s)}\n"
        for row in view.vips
        for end in row.chain_ends
    )
    return (
        f"{view.subject}: {moved} of {total} slots move ({_percent(view.share)}),"
        f" with {flows} live flows\n"
        f"\n{tables.draw(columns, cells, style)}" + (f"\n{ends}" if ends else "")
    )


def _percent(share: float) -> str:
    return f"{share * 100:.2f} %"
