"""`waypost vip ...`: the VIPs as the daemon believes them."""

from __future__ import annotations

import click

from gslb.fleet.config import nearest
from gslb.fleet.views import RealList, RealRow, View, VipList, VipRow
from gslb.service.lifecycle import ExitCode, Refused
from ops.cli import tables
from ops.cli.complete import complete_vip
from ops.cli.real import draw_reals
from ops.cli.seat import seat, shared_options
from ops.cli.status import draw_vips
from ops.cli.tables import Style


class VipDetail(View, frozen=True):
    """One VIP with its reals, put together from /vips and /reals."""

    vip: VipRow
    reals: tuple[RealRow, ...]
    generation: int
    schema: str = "waypost/vip/1"


@click.group()
def vip() -> None:
    """The VIPs that clients connect to."""


@vip.command("list")
@shared_options
def list_vips() -> None:
    """List every VIP with its state."""
    here = seat()
    reply = here.client().show("/vips", VipList)
    here.show(reply, lambda view: draw_vips(view.vips, here.style))


@vip.command("show")
@click.argument("name", metavar="VIP", shell_complete=complete_vip)
@shared_options
def show_vip(name: str) -> None:
    """Show one VIP and its reals."""
    here = seat()
    client = here.client()
    vips = client.show("/vips", VipList).view
    row = next((row for row in vips.vips if row.name == name), None)
    if row is None:
        advice = nearest(name, [row.name for row in vips.vips])
        raise Refused(ExitCode.FAILED, f"no VIP `{name}` ({advice})")
    detail = VipDetail(vip=row, reals=_reals_of(name), generation=vips.generation)
    if here.json:
        here.say_json(detail)
    else:
        here.say(draw_vip(detail, here.now_s(), here.style))


def _reals_of(name: str) -> tuple[RealRow, ...]:
    """The VIP's reals; none where this daemon knows no reals."""
    try:
        reals = seat().client().show("/reals", RealList).view.reals
    except Refused as refused:
        if refused.code is not ExitCode.UNSUPPORTED:
            raise
        return ()
    return tuple(row for row in reals if row.vip == name)


def draw_vip(view: VipDetail, now_s: float, style: Style) -> str:
    """A line on the VIP, its reason, what this daemon counted of it, its reals."""
    row = view.vip
    facts = (
        row.name,
        f"site {row.site}",
        tables.endpoint(row.address, row.port, row.protocol),
        tables.paint(row.state, style),
        f"answered {'yes' if row.eligible else 'no'}",
        f"reals {row.reals_up}/{row.reals_total}",
        f"{tables.count(row.packets_per_s, style)} pkt/s",
        f"generation {view.generation}",
    )
    counted = (
        f"packets {tables.count(row.packets, style)}",
        f"bytes {tables.count(row.bytes, style)}",
        f"dropped {tables.count(row.dropped, style)}",
        f"new flows {tables.count(row.flows_new, style)}",
        f"flow hits {tables.count(row.flow_hits, style)}",
    )
    lines = ["   ".join(facts), f"reason: {row.reason}"]
    if row.packets >= 0:
        lines.append("   ".join(counted))
    if row.received_packets >= 0:
        lines.append(
            f"received packets {tables.count(row.received_packets, style)}"
            f"   bytes {tables.count(row.received_bytes, style)}"
            f"   sent packets {tables.count(row.sent_packets, style)}"
            f"   bytes {tables.count(row.sent_bytes, style)}"
        )
    reals = draw_reals(view.reals, now_s, style)
    return "\n".join(lines) + "\n" + (f"\n{reals}" if reals else "")
