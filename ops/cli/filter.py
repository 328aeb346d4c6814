"""`waypost filter ...`: an edge's source filter, and rules by hand that end by themselves."""

from __future__ import annotations

import os

import click

from gslb.fleet.views import Done, FilterList, FilterRow, VipLimitRow
from ops.cli import tables
from ops.cli.complete import complete_vip
from ops.cli.duration import Duration
from ops.cli.seat import seat, shared_options
from ops.cli.tables import Style


@click.group("filter")
def source_filter() -> None:
    """Which clients may send to VIPs, and how fast."""


@source_filter.command("list")
@shared_options
def list_rules() -> None:
    """List the rules and the VIPs' limits, with what they let pass and dropped."""
    here = seat()
    reply = here.client("edge").show("/filter", FilterList)
    here.show(reply, lambda view: draw_filter(view, here.now_s(), here.style))


@source_filter.command("add")
@click.argument("prefix", metavar="PREFIX")
@click.option("--deny", "action", flag_value="deny", help="Drop every packet.")
@click.option("--allow", "action", flag_value="allow", help="An exception from a wider rule.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="PPS", help="So many packets a second."
)
@click.option(
    "--burst",
    type=click.IntRange(min=1),
    metavar="PACKETS",
    help="At once after a pause. Default: a tenth of a second's packets.",
)
@click.option(
    "--vip",
    "vips",
    multiple=True,
    metavar="VIP",
    shell_complete=complete_vip,
    help="Only for this VIP; may be repeated. Default: all.",
)
@click.option(
    "--for", "for_s", type=Duration(), required=True, metavar="TIME", help="Like 90s, 30m, 12h, 7d."
)
@click.option("--reason", default="", metavar="TEXT", help="Why; shown to everybody.")
@click.option("--by", default="", metavar="NAME", help="Who. Default: the logged-in user.")
@click.option("--force", is_flag=True, help="Even for a large part of the Internet.")
@shared_options
def add(
    prefix: str,
    *,
    action: str | None,
    limit: int | None,
    burst: int | None,
    vips: tuple[str, ...],
    for_s: int,
    reason: str,
    by: str,
    force: bool,
) -> None:
    """Deny, limit or allow a prefix on this edge for a time.

    It takes the place of a rule for the same prefix until it ends.
    """
    if (action is None) == (limit is None):
        raise click.UsageError("name one of --deny, --allow and --limit")
    params = {
        "prefix": prefix,
        "action": action or "limit",
        "packets_per_s": str(limit or ""),
        "burst": str(burst or ""),
        "vips": " ".join(vips),
        "for_s": str(for_s),
        "reason": reason,
        "by": by or _user(),
        "force": "1" if force else "",
    }
    _tell("/filter/add", params)


@source_filter.command("remove")
@click.argument("prefix", metavar="PREFIX")
@click.option("--by", default="", metavar="NAME", help="Who. Default: the logged-in user.")
@shared_options
def remove(prefix: str, *, by: str) -> None:
    """End a rule by hand on this edge."""
    _tell("/filter/remove", {"prefix": prefix, "by": by or _user()})


def _tell(route: str, params: dict[str, str]) -> None:
    here = seat()
    here.show(here.client("edge").change(route, Done, params), lambda view: f"{view.message}\n")


def _user() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"


def draw_filter(view: FilterList, now_s: float, style: Style) -> str:
    """The rules, then the VIPs' limits."""
    drawn = [_draw_rules(view.rules, now_s, style), _draw_limits(view.limits, style)]
    return "\n".join(part for part in drawn if part) or "no rules and no limits\n"


def _draw_rules(rows: tuple[FilterRow, ...], now_s: float, style: Style) -> str:
    columns = (
        *tables.left("RULE", "PREFIX", "ACTION"),
        *tables.right("PACKETS/S", "BURST", "PASSED", "DROPPED"),
        *tables.left("ENDS IN", "VIPS", "REASON"),
    )
    cells = [
        (
            row.name,
            row.prefix,
            row.action if row.in_force else f"{row.action}, not in force",
            tables.count(row.packets_per_s or -1, style),
            tables.count(row.burst or -1, style),
            tables.count(row.passed_packets, style),
            tables.count(row.dropped_packets, style),
            tables.age(row.until_s - now_s) if row.until_s else "",
            ",".join(row.vips) or "all",
            row.reason,
        )
        for row in rows
    ]
    return tables.draw(columns, cells, style)


def _draw_limits(rows: tuple[VipLimitRow, ...], style: Style) -> str:
    columns = (*tables.left("VIP"), *tables.right("PACKETS/S", "BURST", "DROPPED"))
    cells = [
        (
            row.vip,
            tables.count(row.packets_per_s, style),
            tables.count(row.burst, style),
            tables.count(row.dropped_packets, style),
        )
        for row in rows
    ]
    return tables.draw(columns, cells, style)
