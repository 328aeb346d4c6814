"""`waypost drops`: what became of packets and queries, by the name of its verdict."""

from __future__ import annotations

import time

import click

from gslb.fleet.views import CounterRow, Drops
from ops.cli import tables
from ops.cli.seat import seat, shared_options
from ops.cli.tables import Style

PACKETS = "packets"  # the unit that has bytes


@click.command()
@click.option("--watch", is_flag=True, help="Show what moved, each interval, until interrupted.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    metavar="SECONDS",
    help="Between two looks of --watch. Default: 1.",
)
@click.option("--times", type=click.IntRange(min=1), metavar="N", help="End --watch after N looks.")
@shared_options
def drops(*, watch: bool, interval: float, times: int | None) -> None:
    """Count packets or queries by verdict."""
    here = seat()
    client = here.client("edge", "dns", "https", "real")
    reply = client.show("/drops", Drops)
    if not watch:
        here.show(reply, lambda view: draw_drops(view, here.style))
        return
    before, before_s = reply.view, time.monotonic()
    look = 0
    while times is None or look < times:
        time.sleep(interval)
        reply, now_s = client.show("/drops", Drops), time.monotonic()
        moved = moved_since(before, reply.view)
        if here.json:
            here.say_json(reply.raw)
        else:
            moment = tables.instant(here.now_s())
            here.say(f"{moment}\n{draw_rates(moved, now_s - before_s, here.style)}\n")
        before, before_s = reply.view, now_s
        look += 1


def moved_since(before: Drops, after: Drops) -> Drops:
    """What was counted between two looks; a counter that fell began anew with its daemon."""
    earlier = {row.name: row for row in before.counters}
    moved: list[CounterRow] = []
    for row in after.counters:
        old = earlier.get(row.name)
        if old is None or old.packets > row.packets:
            moved.append(row)
        else:
            packets, octets = row.packets - old.packets, row.bytes - old.bytes
            moved.append(CounterRow(name=row.name, packets=packets, bytes=octets))
    return Drops(counters=tuple(moved), unit=after.unit)


def draw_drops(view: Drops, style: Style) -> str:
    """Every counter, also those that never moved."""
    return _draw(view.counters, view.unit, 1.0, style)


def draw_rates(moved: Drops, seconds: float, style: Style) -> str:
    """What moved, each second."""
    rows = tuple(row for row in moved.counters if row.packets)
    return _draw(rows, moved.unit, seconds, style, each="/S") or f"no {moved.unit}\n"


def _draw(
    rows: tuple[CounterRow, ...], unit: str, seconds: float, style: Style, each: str = ""
) -> str:
    """Only packets have bytes; a query is a query."""
    with_bytes = unit == PACKETS
    columns = (
        *tables.left("VERDICT"),
        *tables.right(f"{unit.upper()}{each}"),
        *tables.right(*([f"BYTES{each}"] if with_bytes else [])),
    )
    cells = [
        (
            row.name,
            tables.count(row.packets / seconds, style),
            *([tables.count(row.bytes / seconds, style)] if with_bytes else []),
        )
        for row in rows
    ]
    return tables.draw(columns, cells, style)
