"""`waypost lab`: up, status, exec, down and the demo. Draws only; the work is in `ops.lab`."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
import msgspec

from gslb.service.lifecycle import ExitCode
from ops.lab import demo, demo_dns, demo_edges, demo_failures, demo_packets, paths, processes
from ops.lab import lab as labs
from ops.lab.topology import DNS_ADDRESS, DOMAIN, HOSTS


def _progress(text: str) -> None:
    click.echo(f"lab: {text}", err=True)


@click.group()
def lab() -> None:
    """A whole world on this machine: two sites, a router, a DNS node, a client."""


@lab.command()
@click.option("--redis", is_flag=True, help="Use a real redis-server instead of SQLite.")
@click.option("--resilient", is_flag=True, help="Sticky ECMP: resilient groups of next hops.")
def up(*, redis: bool, resilient: bool) -> None:
    """Build the lab and wait until every VIP is UP."""
    with labs.alone():
        labs.up(_progress, redis=redis, resilient=resilient)
    click.echo(f"the lab is up; its logs are in {paths.LOG_DIR}. Try:")
    click.echo(f"  waypost lab exec client -- dig @{DNS_ADDRESS} www.{DOMAIN}")
    click.echo("  waypost lab exec client -- curl http://198.51.100.1/")
    click.echo("  waypost lab exec fra-edge1 -- waypost status")


@lab.command()
def down() -> None:
    """End every process of the lab and remove all that it made."""
    with labs.alone():
        labs.down(_progress)
    left = labs.leftovers()
    if left:
        click.echo(f"still there: {', '.join(left)}", err=True)
        sys.exit(ExitCode.FAILED)
    click.echo("the lab is down, nothing is left")


@lab.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(*, as_json: bool) -> None:
    """Show the lab's hosts and processes; exit 3 when something is not well."""
    running = labs.attach()
    trouble = running.trouble()
    rows = [
        (record.host, record.name, record.pid, processes.alive(record))
        for record in running.ledger.processes.values()
    ]
    trouble += [f"{name}: not running" for _, name, _, alive in rows if not alive]
    if as_json:
        view = {
            "schema": "waypost/lab/1",
            "store": "redis" if running.ledger.redis else "sqlite",
            "ecmp": "resilient" if running.ledger.resilient else "plain",
            "processes": [
                {"host": host, "name": name, "pid": pid, "running": alive}
                for host, name, pid, alive in rows
            ],
            "trouble": trouble,
        }
        click.echo(msgspec.json.encode(view).decode())
    else:
        addresses = {host.name: host.address for host in HOSTS} | {"router": ""}
        click.echo(f"{'HOST':<12}{'ADDRESS':<15}{'PROCESS':<18}{'PID':<8}STATE")
        for host, name, pid, alive in rows:
            state = "running" if alive else "ENDED"
            click.echo(f"{host:<12}{addresses[host]:<15}{name:<18}{pid:<8}{state}")
        for line in trouble or ["all well"]:
            click.echo(line)
    sys.exit(ExitCode.UNHEALTHY if trouble else ExitCode.DONE)


@lab.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def exec_(host: str, argv: tuple[str, ...]) -> None:
    """Run a command (or a shell) on a lab host: exec HOST -- CMD..."""
    labs.enter(host, list(argv))


@lab.command(name="demo")
@click.option("--redis", is_flag=True, help="Use a real redis-server instead of SQLite.")
@click.option("--keep", is_flag=True, help="Leave the lab up at the end.")
def demo_(*, redis: bool, keep: bool) -> None:
    """Tell and verify the main job, step by step; exit 0 only if every step held."""
    colour = sys.stdout.isatty()
    steps = (*demo_dns.STEPS, *demo_packets.STEPS, *demo_failures.STEPS, *demo_edges.STEPS)
    say: Callable[[str], None] = click.echo
    with labs.alone():
        running = labs.up(_progress, redis=redis)
        try:
            told = demo.tell(running, steps, say, colour=colour)
        finally:
            if not keep:
                labs.down(_progress)
    left = [] if keep else labs.leftovers()
    told.append(demo.Told(f"the lab is gone: {', '.join(left) or 'nothing left'}", not left, 0.0))
    say("")
    say(demo.summary(told, colour=colour))
    sys.exit(ExitCode.DONE if all(item.held for item in told) else ExitCode.FAILED)
