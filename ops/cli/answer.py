"""`waypost answer ...`: why a name is answered as it is."""

from __future__ import annotations

import click

from gslb.fleet.views import Explanation
from ops.cli import tables
from ops.cli.seat import seat, shared_options
from ops.cli.tables import Style


@click.group()
def answer() -> None:
    """What clients are answered, and why."""


@answer.command("explain")
@click.argument("name")
@click.argument("rtype", metavar="[TYPE]", default="A")
@click.option("--client", required=True, metavar="ADDRESS", help="The client who would ask.")
@shared_options
def explain(name: str, rtype: str, *, client: str) -> None:
    """Decide for a client without asking on the wire, with each candidate and its reason."""
    here = seat()
    reply = here.client("dns", "https").show(
        "/explain", Explanation, name=name, type=rtype.upper(), client=client
    )
    here.show(reply, lambda view: draw_explanation(view, here.style))


def draw_explanation(view: Explanation, style: Style) -> str:
    """The question and how it was decided, the candidates, the answers."""
    facts = [f"{view.name} {view.type}", view.rcode]
    if view.pool:
        facts += [f"pool {view.pool}", f"policy {view.policy}"]
    facts += [f"ttl {view.ttl_s} s", f"client {view.client}"]
    if view.scope:
        facts.append(f"scope {view.scope}")
    facts.append(f"generation {view.generation}")
    columns = (
        *tables.left("CANDIDATE", "SITE", "ADDRESS", "STATE"),
        *tables.right("DISTANCE"),
        *tables.left("CHOSEN", "REASON"),
    )
    cells = [
        (
            row.vip,
            row.site,
            row.address,
            row.state,
            f"{tables.count(row.distance_km, style)} km" if row.distance_km >= 0 else "",
            "yes" if row.chosen else "no",
            row.reason,
        )
        for row in view.candidates
    ]
    lines = ["   ".join(facts) + "\n"]
    lines += [f"reason: {reason}\n" for reason in view.reasons]
    table = tables.draw(columns, cells, style)
    answers = "".join(f"answer: {text}\n" for text in view.answers) or "answer: none\n"
    return "".join(lines) + (f"\n{table}\n" if table else "") + answers
