"""`waypost real ...`: the reals and their drains; without a verb, the daemon of a real."""

from __future__ import annotations

import math
from pathlib import Path

import click
import msgspec

from gslb.fleet.config import nearest
from gslb.fleet.views import Done, RealList, RealRow
from gslb.service.lifecycle import ExitCode, Refused
from ops.cli import tables
from ops.cli.complete import complete_real, complete_vip
from ops.cli.daemons import config_option, daemon_or_verb
from ops.cli.drain import watch_first_count, watch_until_quiet
from ops.cli.duration import Duration
from ops.cli.seat import seat, shared_options, who
from ops.cli.tables import Style


@click.group(invoke_without_command=True)
@config_option("real", required=False)
@click.option("--check", is_flag=True, help="Check the configuration and end.")
@click.option("--undo", is_flag=True, help="Take VIPs, settings and program off this host again.")
@shared_options
@click.pass_context
def real(context: click.Context, *, config: Path | None, check: bool, undo: bool) -> None:
    """The reals that serve VIPs.

    With --config and no verb, run the daemon of this real.
    """
    daemon_or_verb(context, "list, drain, undrain", config, check=check, undo=undo)


@real.command("list")
@click.option("--vip", metavar="VIP", shell_complete=complete_vip, help="Only this VIP's reals.")
@shared_options
def list_reals(*, vip: str | None) -> None:
    """List the reals, one line for each VIP that they serve."""
    here = seat()
    reply = here.client("edge", "dns", "https").show("/reals", RealList)
    if vip is None:
        here.show(reply, lambda view: draw_reals(view.reals, here.now_s(), here.style))
        return
    wanted = tuple(row for row in reply.view.reals if row.vip == vip)
    if not wanted:
        advice = nearest(vip, {row.vip for row in reply.view.reals})
        raise Refused(ExitCode.FAILED, f"no VIP `{vip}` with reals here ({advice})")
    if here.json:
        here.say_json(msgspec.structs.replace(reply.view, reals=wanted))
    else:
        here.say(draw_reals(wanted, here.now_s(), here.style))


@real.command("drain")
@click.argument("name", metavar="REAL", shell_complete=complete_real)
@click.option("--reason", default="", metavar="TEXT", help="Why; shown to everybody.")
@click.option("--by", default="", metavar="NAME", help="Who. Default: the logged-in user.")
@click.option("--force", is_flag=True, help="Even if a VIP loses its last serving real.")
@click.option("--wait", is_flag=True, help="Until no flow is left; Ctrl-C leaves the drain so.")
@click.option(
    "--for",
    "for_s",
    type=Duration(),
    metavar="TIME",
    help="Wait no longer: 90s, 30m, 12h, 7d.",
)
@shared_options
def drain(name: str, *, reason: str, by: str, force: bool, wait: bool, for_s: int | None) -> None:
    """Give a real no new flows; the flows it has stay.

    The real itself counts what is left. Nothing is taken from it: stop it when it is quiet.
    """
    if for_s is not None and not wait:
        raise click.UsageError("--for says how long to --wait")
    here = seat()
    _will("/real/drain", name, by, reason, force=force)
    if wait:
        at_most_s = math.inf if for_s is None else for_s
        watch_until_quiet(here, here.client("edge"), name, at_most_s=at_most_s)
    elif here.is_terminal and not here.json:
        watch_first_count(here, here.client("edge"), name)


@real.command("undrain")
@click.argument("name", metavar="REAL", shell_complete=complete_real)
@click.option("--reason", default="", metavar="TEXT", help="Why; shown to everybody.")
@click.option("--by", default="", metavar="NAME", help="Who. Default: the logged-in user.")
@shared_options
def undrain(name: str, *, reason: str, by: str) -> None:
    """Let a drained real take new flows again."""
    _will("/real/undrain", name, by, reason, force=False)


def _will(route: str, name: str, by: str, reason: str, *, force: bool) -> None:
    here = seat()
    params = {
        "name": name,
        "by": who(by),
        "reason": reason,
        "force": "1" if force else "",
    }
    here.show(here.client("edge").change(route, Done, params), lambda view: f"{view.message}\n")


def draw_reals(rows: tuple[RealRow, ...], now_s: float, style: Style) -> str:
    """Reals, one a line for each VIP and edge."""
    columns = (
        *tables.left("REAL", "VIP", "SITE", "ADDRESS", "STATE"),
        *tables.right("SINCE", "WEIGHT", "SLOTS", "PACKETS", "BYTES", "FLOWS", "OLDEST"),
        *tables.left("ENCAP", "EDGE", "REASON"),
    )
    cells = [
        (
            row.name,
            row.vip,
            row.site,
            row.address,
            row.state,
            tables.age(now_s - row.since_s) if row.since_s > 0 else "",
            str(row.weight),
            tables.count(row.slots, style),
            tables.count(row.packets, style),
            tables.count(row.bytes, style),
            tables.count(row.flows, style),
            tables.age(now_s - row.oldest_s) if row.oldest_s > 0 else "",
            row.encap,
            row.edge,
            row.reason,
        )
        for row in rows
    ]
    return tables.draw(columns, cells, style)
