"""`waypost status`: one daemon's whole world on one screen, and `--check` for a monitor."""

from __future__ import annotations

import click

from gslb.fleet.views import Chains, DrainRow, SiteRow, Status, VipRow
from gslb.service.lifecycle import ExitCode
from ops.cli import tables
from ops.cli.seat import seat, shared_options
from ops.cli.tables import Style


@click.command()
@click.option("--check", is_flag=True, help="One line, and exit code 3 unless all is well.")
@shared_options
def status(*, check: bool) -> None:
    """Show how a daemon is, and what is wrong.

    Its VIPs, sites, store and counters on one screen.
    """
    here = seat()
    reply = here.client().show("/status", Status)
    if check and not here.json:
        here.say(draw_check(reply.view))
    else:
        here.show(reply, lambda view: draw_status(view, here.now_s(), here.style))
    if check and not reply.view.well:
        click.get_current_context().exit(ExitCode.UNHEALTHY)


def draw_check(view: Status) -> str:
    """One line for a monitor."""
    if view.well:
        return f"ok: {view.role} {view.host}, generation {view.generation}\n"
    trouble = "; ".join(view.trouble) or "not well"
    return f"unhealthy: {view.role} {view.host}: {trouble}\n"


def draw_status(view: Status, now_s: float, style: Style) -> str:
    """The screen: a line on the daemon, its trouble, its VIPs, the sites, what it counted."""
    facts = [f"{view.role} {view.host}"]
    if view.site:
        facts.append(f"site {view.site}")
    config_age = tables.age(now_s - view.config_at_s)
    facts += [
        tables.paint("well" if view.well else "unwell", style),
        f"generation {view.generation}",
        f"config {view.config_hash} ({config_age} ago)",
        f"store {view.store}",
    ]
    if view.datapath:
        facts.append(view.datapath)
    facts += [f"up {tables.age(view.uptime_s)}", f"version {view.version}"]
    parts = ["   ".join(facts) + "\n"]
    if view.announcing:
        parts.append(f"announced: {view.announcing}\n")
    parts += [f"{line}\n" for line in view.waiting]
    parts += [f"sockets are asked in {path} too\n" for path in view.namespaces]
    parts += [f"trouble: {line}\n" for line in view.trouble]
    counters = [
        (row.name, tables.count(row.packets, style), tables.count(row.bytes or -1, style))
        for row in view.counters
        if row.packets
    ]
    sections = (
        draw_vips(view.vips, style),
        draw_drains(view.drains, now_s, style),
        draw_traffic(view.vips, style),
        draw_flows(view.vips, now_s, style),
        draw_sites(view.sites, style),
        *(draw_chains(view.chains, style) if view.chains else ()),
        tables.draw((*tables.left("COUNTED"), *tables.right("NUMBER", "BYTES")), counters, style),
    )
    return "".join(parts) + "".join(f"\n{section}" for section in sections if section)


def draw_vips(rows: tuple[VipRow, ...], style: Style) -> str:
    """VIPs, one a line."""
    columns = (
        *tables.left("VIP", "SITE", "ADDRESS", "STATE"),
        *tables.right("REALS", "PKT/S"),
        *tables.left("ANSWERED", "REASON"),
    )
    cells = [
        (
            row.name,
            row.site,
            tables.endpoint(row.address, row.port, row.protocol),
            row.state,
            f"{row.reals_up}/{row.reals_total}",
            tables.count(row.packets_per_s, style),
            "yes" if row.eligible else "no",
            row.reason,
        )
        for row in rows
    ]
    return tables.draw(columns, cells, style)


def draw_traffic(rows: tuple[VipRow, ...], style: Style) -> str:
    """What a real received and sent, one VIP address a line; nothing where that is not known."""
    columns = (
        *tables.left("VIP ADDRESS"),
        *tables.right("RECEIVED", "BYTES", "SENT", "BYTES"),
    )
    known = {row.address: row for row in rows if row.received_packets >= 0}
    cells = [
        (
            address,
            tables.count(row.received_packets, style),
            tables.count(row.received_bytes, style),
            tables.count(row.sent_packets, style),
            tables.count(row.sent_bytes, style),
        )
        for address, row in known.items()
    ]
    return tables.draw(columns, cells, style)


def draw_flows(rows: tuple[VipRow, ...], now_s: float, style: Style) -> str:
    """What flows a real holds, one VIP a line; nothing where that is not known."""
    columns = (*tables.left("VIP"), *tables.right("FLOWS", "OLDEST"))
    cells = [
        (
            row.name,
            tables.count(row.flows, style),
            tables.age(now_s - row.oldest_s) if row.oldest_s > 0 else "",
        )
        for row in rows
        if row.flows >= 0
    ]
    return tables.draw(columns, cells, style)


def draw_drains(rows: tuple[DrainRow, ...], now_s: float, style: Style) -> str:
    """What operators drained, one real a line, with what is left on it."""
    columns = (
        *tables.left("DRAINED", "BY"),
        *tables.right("SINCE", "FLOWS", "OLDEST"),
        *tables.left("LEFT", "REASON"),
    )
    cells = [
        (
            row.name,
            row.by,
            tables.age(now_s - row.at_s),
            tables.count(row.flows, style),
            tables.age(now_s - row.oldest_s) if row.oldest_s > 0 else "",
            row.words,
            row.reason,
        )
        for row in rows
    ]
    return tables.draw(columns, cells, style)


def draw_chains(chains: Chains, style: Style) -> tuple[str, ...]:
    """Owner chains at a real: where flows are found, what edges say, whom it hands on to."""
    found = [
        (str(depth), tables.count(packets, style))
        for depth, packets in enumerate(chains.found)
        if packets
    ]
    edges = [
        (
            edge.address,
            str(edge.generation),
            tables.count(edge.packets, style),
            tables.age(edge.age_s),
        )
        for edge in chains.edges
    ]
    peers = [(row.name, row.address, row.way or "not known") for row in chains.peers]
    differ = "" if chains.edges_agree else "edges disagree: they follow histories that differ\n"
    return (
        tables.draw(tables.right("REALS BEFORE", "PACKETS FOUND HERE"), found, style),
        tables.draw(
            (*tables.left("EDGE"), *tables.right("HISTORY", "WITH CHAIN", "AGO")), edges, style
        )
        + differ,
        tables.draw(tables.left("HANDS ON TO", "ADDRESS", "WAY"), peers, style),
    )


def draw_sites(rows: tuple[SiteRow, ...], style: Style) -> str:
    """Sites, one a line."""
    columns = (*tables.left("SITE"), *tables.right("VIPS", "EDGES"))
    cells = [
        (
            row.name,
            f"{row.vips_eligible}/{row.vips_total}",
            f"{row.edges_fresh}/{row.edges_total}",
        )
        for row in rows
    ]
    return tables.draw(columns, cells, style)
