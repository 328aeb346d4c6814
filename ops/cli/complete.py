"""Names for the shell's completion, asked of the daemon while a person types.

Owns the short patience of completion: no daemon, no names, and never an error on the prompt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from gslb.fleet.views import RealList, VipList
from gslb.service.lifecycle import Refused
from ops.cli.client import ROLES, AdminClient, find_socket

PATIENCE_S = 0.5


def complete_vip(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The names of VIPs that begin so."""
    return _begun(
        begun, lambda client: {row.name for row in client.show("/vips", VipList).view.vips}
    )


def complete_real(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The names of reals that begin so."""
    return _begun(
        begun, lambda client: {row.name for row in client.show("/reals", RealList).view.reals}
    )


def _begun(begun: str, ask: Callable[[AdminClient], set[str]]) -> list[str]:
    named = os.environ.get("WAYPOST_SOCKET")
    try:
        path = find_socket(Path(named) if named else None, ROLES)
        names = ask(AdminClient(path, timeout_s=PATIENCE_S))
    except Refused:
        return []
    return sorted(name for name in names if name.startswith(begun))
