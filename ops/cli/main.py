"""`waypost`: the one command of an operator.

Owns the tree of commands and the exit codes (`gslb.service.lifecycle.ExitCode`). The commands live
in files by their noun; this file names them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from gslb.service.lifecycle import ExitCode, guarded
from ops.cli.answer import answer
from ops.cli.capture import capture
from ops.cli.config import config
from ops.cli.daemons import announce, dns, https
from ops.cli.datapath import datapath
from ops.cli.drops import drops
from ops.cli.edge import edge
from ops.cli.events import events
from ops.cli.filter import source_filter
from ops.cli.flow import flow
from ops.cli.plan import plan
from ops.cli.real import real
from ops.cli.seat import Seat, global_options
from ops.cli.shell import completion, version
from ops.cli.status import status
from ops.cli.trace import trace
from ops.cli.vip import vip


class Tree(click.Group):
    """The tree of commands; the lab is imported only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, in the order of the alphabet."""
        return sorted([*super().list_commands(ctx), "lab"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name != "lab":
            return super().get_command(ctx, cmd_name)
        found = importlib.import_module("ops.cli.lab").lab
        return found if isinstance(found, click.Command) else None


@click.group(
    cls=Tree, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@global_options
def cli() -> None:
    """Waypost: which VIP should a client use, and which real should its packets reach?

    The options below may stand before a command or after it.

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 unhealthy, 4 no daemon answers, 5 configuration
    refused, 6 refused for safety (--force would do it), 7 not supported here, 8 port taken,
    9 not root, 10 already running, 11 no libbpf, 12 no BPF file system, 13 kernel too old,
    14 interface, 15 a new program failed its rehearsal, 16 not so within the time that was given,
    130 interrupted.
    """


for command in (
    status,
    vip,
    real,
    answer,
    flow,
    plan,
    source_filter,
    trace,
    drops,
    capture,
    events,
    config,
    datapath,
    dns,
    https,
    edge,
    announce,
    completion,
    version,
):
    cli.add_command(command)


def run(arguments: Sequence[str], seat: Seat | None = None) -> int:
    """Run one command line; its exit code."""
    try:
        code = cli.main(
            args=list(arguments), prog_name="waypost", standalone_mode=False, obj=seat or Seat()
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return ExitCode.INTERRUPTED
    return int(code) if isinstance(code, int) else ExitCode.DONE


def main() -> None:
    """The console script."""
    sys.exit(guarded(lambda: run(sys.argv[1:])))
