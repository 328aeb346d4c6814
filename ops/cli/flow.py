"""`waypost flow ...`: which real a flow reaches."""

from __future__ import annotations

import click

from gslb.fleet.views import FlowWhere
from ops.cli import tables
from ops.cli.complete import complete_vip
from ops.cli.seat import seat, shared_options


@click.group()
def flow() -> None:
    """Single flows through the data plane."""


@flow.command("where")
@click.argument("client", metavar="CLIENT:PORT")
@click.argument("vip", shell_complete=complete_vip)
@shared_options
def where(client: str, vip: str) -> None:
    """Tell which real a flow would reach from here, and why: memory, ring, or none."""
    here = seat()
    reply = here.client("edge").show("/flow", FlowWhere, client=client, vip=vip)
    here.show(reply, draw_flow)


def draw_flow(view: FlowWhere) -> str:
    """What the ring and the memory say, and which of them counts."""
    return (
        f"{view.client} to {view.vip}: {view.real or 'no real'}\n"
        f"reason: {view.reason}\n"
        f"slot {view.slot}   ring {view.ring_real or tables.UNKNOWN}{before(view.earlier)}"
        f"   remembered {view.remembered_real or tables.UNKNOWN}\n"
    )


def before(earlier: tuple[str, ...]) -> str:
    """Who had a slot before, latest first, for a line about its owner; empty if nobody."""
    return f", before {', '.join(earlier)}" if earlier else ""
