"""`waypost dns|https|announce`, the daemons behind `waypost edge|real`: each becomes its process.

Owns which module a role's daemon is. The command's process turns into the daemon, so that signals,
exit codes and the process id are the daemon's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import click

import ops

P = ParamSpec("P")
R = TypeVar("R")

MODULES = {
    "dns": ("gslb",),
    "https": ("httpdns",),
    "edge": ("edge_lb", "agent"),
    "announce": ("edge_lb", "announce"),
    "real": ("edge_lb", "real"),
}


def python_argv(*words: str) -> list[str]:
    """This Python on one of our modules; -P: nothing is imported from where a person stands."""
    return [sys.executable, "-P", "-m", *words]


def python_environment() -> dict[str, str]:
    """The environment with our own tree first on the path, installed or not."""
    tree = str(Path(ops.__file__).resolve().parent.parent)
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{before}" if before else tree}


def run_daemon(role: str, config: Path, *flags: str) -> NoReturn:
    """Become the role's daemon."""
    argv = python_argv(*MODULES[role], "--config", str(config), *flags)
    sys.stdout.flush()
    os.execve(argv[0], argv, python_environment())


def config_option(
    role: str, *, required: bool = True
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`--config FILE`, the small file of a role."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        required=required,
        metavar="FILE",
        help=f"This host's small file, like configs/{role}.toml.",
    )


def daemon_or_verb(
    context: click.Context, verbs: str, config: Path | None, *, check: bool, undo: bool
) -> None:
    """Of a group that is named like a role: become its daemon, unless a verb is to follow."""
    if context.invoked_subcommand is not None:
        if config is not None or check or undo:
            raise click.UsageError(
                "--config, --check and --undo start the daemon; leave out the verb"
            )
        return
    if config is None:
        raise click.UsageError(f"name a verb ({verbs}), or --config to run the daemon")
    flags = [*(["--check"] if check else []), *(["--undo"] if undo else [])]
    run_daemon(context.command.name or "", config, *flags)


@click.command()
@config_option("dns")
@click.option("--check", is_flag=True, help="Check the configuration and end.")
def dns(*, config: Path, check: bool) -> None:
    """Run the DNS daemon.

    It answers from authored zones and live VIPs.
    """
    run_daemon("dns", config, *(["--check"] if check else []))


@click.command()
@config_option("https")
@click.option("--check", is_flag=True, help="Check the configuration and end.")
def https(*, config: Path, check: bool) -> None:
    """Run the HTTPS-DNS daemon.

    It gives apps the same answers as the DNS daemon.
    """
    run_daemon("https", config, *(["--check"] if check else []))


@click.command()
@config_option("edge")
@click.option("--check", is_flag=True, help="Check the configuration and end.")
def announce(*, config: Path, check: bool) -> None:
    """Run the BGP speaker of an edge.

    It tells the routers of [[bgp.neighbors]] which VIPs to send to this edge.
    """
    run_daemon("announce", config, *(["--check"] if check else []))
