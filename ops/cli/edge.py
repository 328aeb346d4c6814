"""`waypost edge ...`: the drain of an edge, watched until it ends; without a verb, the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from gslb.fleet.announcing import STALE_S, Announcing
from gslb.fleet.views import Done, Status
from gslb.service.lifecycle import ExitCode, Refused
from ops.cli import tables
from ops.cli.client import AdminClient, Reply
from ops.cli.daemons import config_option, daemon_or_verb
from ops.cli.seat import seat, shared_options, who
from ops.cli.tables import Style

LOOK_S = 1.0


@click.group(invoke_without_command=True)
@config_option("edge", required=False)
@click.option("--check", is_flag=True, help="Check the configuration and end.")
@click.option("--undo", is_flag=True, help="Take program and pins off this host again.")
@shared_options
@click.pass_context
def edge(context: click.Context, *, config: Path | None, check: bool, undo: bool) -> None:
    """The edges of a site, and their drains.

    With --config and no verb, run the daemon of this edge: it checks reals, steers packets and
    reports health.
    """
    daemon_or_verb(context, "drain, undrain", config, check=check, undo=undo)


@edge.command("drain")
@click.argument("name", metavar="EDGE")
@click.option("--reason", default="", metavar="TEXT", help="Why; shown to everybody.")
@click.option("--by", default="", metavar="NAME", help="Who. Default: the logged-in user.")
@click.option("--force", is_flag=True, help="Even if the site loses its last edge.")
@click.option("--wait", is_flag=True, help="Until its routes are withdrawn; Ctrl-C leaves it so.")
@shared_options
def drain(name: str, *, reason: str, by: str, force: bool, wait: bool) -> None:
    """Announce an edge as the worse path, and withdraw it when it is quiet."""
    _will("/edge/drain", name, by, reason, force=force, until="WITHDRAWN" if wait else "")


@edge.command("undrain")
@click.argument("name", metavar="EDGE")
@click.option("--reason", default="", metavar="TEXT", help="Why; shown to everybody.")
@click.option("--by", default="", metavar="NAME", help="Who. Default: the logged-in user.")
@click.option("--wait", is_flag=True, help="Until it is announced; Ctrl-C leaves it so.")
@shared_options
def undrain(name: str, *, reason: str, by: str, wait: bool) -> None:
    """Announce a drained edge like the others again."""
    _will("/edge/undrain", name, by, reason, force=False, until="ANNOUNCED" if wait else "")


def _will(route: str, name: str, by: str, reason: str, *, force: bool, until: str) -> None:
    here = seat()
    client = here.client("edge")
    own = client.show("/status", Status).view.host
    if until and own != name:
        text = f"--wait watches the edge that it asks, and that is {own}; wait on {name} itself"
        raise Refused(ExitCode.USAGE, text)
    if until:
        client.show("/announce", Announcing)  # refused before anything is changed
    params = {"name": name, "by": who(by), "reason": reason, "force": "1" if force else ""}
    here.show(client.change(route, Done, params), lambda view: f"{view.message}\n")
    if not until:
        return
    drained = until == "WITHDRAWN"
    for reply in _changes(client, here.now_s):
        here.show(reply, lambda view: draw_announcing(view, here.now_s(), here.style))
        if reply.view.preference == until and reply.view.drained == drained:
            return


def _changes(client: AdminClient, now_s: Callable[[], float]) -> Iterator[Reply[Announcing]]:
    """How the edge is announced, again whenever that changed; a silent announcer is refused."""
    shown: tuple[object, ...] = ()
    while True:
        reply = client.show("/announce", Announcing)
        view = reply.view
        if now_s() - view.at_s > STALE_S:
            text = "the announcer is silent: start `waypost announce`; the will stands"
            raise Refused(ExitCode.UNREACHABLE, text)
        now = (view.preference, view.reason, view.packets_per_s, view.drained)
        if now != shown:
            shown = now
            yield reply
        time.sleep(LOOK_S)


def draw_announcing(view: Announcing, now_s: float, style: Style) -> str:
    """One line: how the edge is announced, what still comes, and why."""
    rate = "?" if view.packets_per_s < 0 else tables.count(round(view.packets_per_s), style)
    since = tables.age(max(0.0, now_s - view.since_s))
    return f"{view.edge}: {view.preference} for {since}, {rate} packets/s: {view.reason}\n"
