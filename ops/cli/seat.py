"""The seat of one command: global options, wherever they stand, and how it speaks.

Owns what every command shares: which socket, JSON or table, color, patience. Commands get a `Seat`
and nothing else of the process. Output goes through `Seat.say`, so that it can be tested.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import msgspec
from click.core import ParameterSource

from ops.cli.client import ROLES, RUN_DIR, AdminClient, Reply, find_socket
from ops.cli.tables import Style

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What the global options say, and this process's clock and terminal."""

    socket: Path | None = None
    json: bool = False
    color: str = "auto"
    timeout_s: float = 5.0
    heads: bool = True
    run_dir: Path = RUN_DIR
    now_s: Callable[[], float] = time.time  # Unix seconds

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at what is said."""
        return sys.stdout.isatty()

    @property
    def style(self) -> Style:
        """How tables look here: color, width and thin spaces for a terminal only."""
        terminal = self.is_terminal
        return Style(
            color=self.color == "always" or (self.color == "auto" and terminal),
            grouped=terminal,
            heads=self.heads,
            width=shutil.get_terminal_size().columns if terminal else None,
        )

    def client(self, *roles: str) -> AdminClient:
        """The daemon to ask; `roles` are tried in this order where none is named."""
        path = find_socket(self.socket, roles or ROLES, self.run_dir)
        return AdminClient(path, timeout_s=self.timeout_s)

    def say(self, text: str) -> None:
        """Write text that ends its own lines to standard output."""
        click.echo(text, nl=False, color=True)  # color is decided by `style` alone

    def say_json(self, value: bytes | msgspec.Struct) -> None:
        """Write one JSON object on a line; bytes are a daemon's own and stay as they are."""
        raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
        self.say(raw.decode() + "\n")

    def show(self, reply: Reply[V], drawn: Callable[[V], str]) -> None:
        """Write a daemon's view: its own bytes for --json, else as `drawn` does."""
        if self.json:
            self.say_json(reply.raw)
        else:
            self.say(drawn(reply.view))


def seat() -> Seat:
    """The seat of the running command."""
    held = click.get_current_context().find_root().obj
    return held if isinstance(held, Seat) else Seat()


def who(by: str) -> str:
    """Who speaks: as told, else the user behind sudo, else the user."""
    return by or os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"


def _update(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that puts an option's value into the root's seat, wherever it was given.

    What the environment says counts at the root alone, so that it cannot override the command line.
    """

    def put(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        root = context.find_root()
        source = context.get_parameter_source(parameter.name or "")
        said = source is ParameterSource.COMMANDLINE
        if said or (source is ParameterSource.ENVIRONMENT and context is root):
            held = root.obj if isinstance(root.obj, Seat) else Seat()
            root.obj = replace(held, **{field: value})

    return put


def _options(*, hidden: bool) -> tuple[Callable[[Callable[P, R]], Callable[P, R]], ...]:
    return (
        click.option(
            "--socket",
            envvar="WAYPOST_SOCKET",
            type=click.Path(path_type=Path),
            hidden=hidden,
            expose_value=False,
            callback=_update("socket"),
            metavar="PATH",
            help="A daemon's admin socket. Else the first of "
            f"{RUN_DIR}/{{{','.join(ROLES)}}}.sock that exists. Also WAYPOST_SOCKET.",
        ),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            hidden=hidden,
            expose_value=False,
            callback=_update("json"),
            help="Print the view as JSON, as the daemon sent it.",
        ),
        click.option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            hidden=hidden,
            expose_value=False,
            callback=_update("color"),
            help="Color states. Default: on a terminal only.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0.01),
            hidden=hidden,
            expose_value=False,
            callback=_update("timeout_s"),
            metavar="SECONDS",
            help="How long to wait for the daemon. Default: 5.",
        ),
        click.option(
            "--no-header",
            "no_header",
            flag_value=False,
            default=None,
            hidden=hidden,
            expose_value=False,
            callback=_update("heads"),
            help="Leave out the heads of tables.",
        ),
    )


def global_options(function: Callable[P, R]) -> Callable[P, R]:
    """The global options at the root, where help shows them."""
    for option in reversed(_options(hidden=False)):
        function = option(function)
    return function


def shared_options(function: Callable[P, R]) -> Callable[P, R]:
    """The global options once more, so that they may stand after a command as well."""
    for option in reversed(_options(hidden=True)):
        function = option(function)
    return function
