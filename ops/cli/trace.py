"""`waypost trace packet`: one described packet through the loaded program, decision by decision."""

from __future__ import annotations

import click

from gslb.fleet.views import Trace
from ops.cli import tables
from ops.cli.flow import before
from ops.cli.seat import seat, shared_options


@click.group()
def trace() -> None:
    """What the data plane would do, and why."""


@trace.command("packet")
@click.option("--from", "client", required=True, metavar="ADDRESS:PORT", help="The client.")
@click.option("--to", "destination", required=True, metavar="ADDRESS:PORT", help="The VIP.")
@click.option("--proto", type=click.Choice(["tcp", "udp"]), default="tcp", help="Default: tcp.")
@click.option("--syn", is_flag=True, help="A TCP SYN. Default: an ACK, as of an open connection.")
@click.option(
    "--size", type=click.IntRange(min=1), metavar="N", help="Of the IP packet. Default: no payload."
)
@shared_options
def packet(*, client: str, destination: str, proto: str, syn: bool, size: int | None) -> None:
    """Run one packet through the loaded program on its live maps, and print each decision.

    Nothing is sent, counted, remembered or forgotten.
    """
    here = seat()
    query = {
        "from": client,
        "to": destination,
        "protocol": proto,
        "syn": "1" if syn else "",
        "size": str(size or ""),
    }
    here.show(here.client("edge").show("/trace", Trace, **query), draw_trace)


def draw_trace(view: Trace) -> str:
    """The decisions in the order in which they are made, then the headers as they leave."""
    none = tables.UNKNOWN
    slot = f"{view.slot}: {view.ring_real or 'empty'}{before(view.earlier)}"
    real = f"{view.real} ({view.real_address}, {view.real_state}, {view.encap})"
    rows = [
        ("packet", f"{view.client} to {view.destination}/{view.protocol}, by {view.interface}"),
        ("filter", "; ".join(view.filter) or none),
        ("VIP", view.vip or none),
        ("remembered", view.remembered_real or none),
        ("slot", slot if view.slot >= 0 else none),
        ("real", real if view.real else none),
        ("owner chain", ", then ".join(view.candidates) or none),
        ("next hop", f"{view.next_hop} by {view.out_interface}" if view.next_hop else none),
        ("verdict", f"{view.verdict}: {view.action}"),
        (f"{view.bytes} bytes", "as it leaves"),
    ]
    for layer in view.layers:
        fields = ", ".join(f"{name} {value}" for name, value in layer.fields.items() if value)
        rows.append((f"  {layer.name}", fields))
    rows.append(("program", f"{view.program_tag}, a twin of the attached one on its maps"))
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:{width}}  {text}".rstrip() + "\n" for name, text in rows)
