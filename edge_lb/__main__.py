"""`python -m edge_lb agent|real|announce --config FILE [--check | --undo]`: a site's daemons.

Owns the command line only. Exit codes are those of `gslb.service.lifecycle.ExitCode`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from gslb.service.lifecycle import guarded

# Imported only when asked for: the announcer, which shall start fast, needs little of the agent.
_VERBS = {
    "agent": ("edge_daemon", {"run": "run_edge", "check": "check_edge", "undo": "undo_edge"}),
    "announce": ("speaker", {"run": "run_announce", "check": "check_announce"}),
    "announcer": ("announcer", {"run": "run_announcer"}),  # started by ExaBGP
    "real": ("real_agent", {"run": "run_real", "check": "check_real", "undo": "undo_real"}),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one daemon, check its configuration, or undo what it made; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edge_lb", description="The daemons of a site.")
    parser.add_argument("role", choices=sorted(_VERBS))
    parser.add_argument("--config", type=Path, required=True, help="edge.toml or real.toml")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="check the configuration, then end")
    mode.add_argument("--undo", action="store_true", help="remove what the daemon made, then end")
    chosen = parser.parse_args(arguments)
    verb = "check" if chosen.check else "undo" if chosen.undo else "run"
    module, verbs = _VERBS[chosen.role]
    if verb not in verbs:
        parser.error(f"{chosen.role} has no --{verb}")
    found = importlib.import_module(f"edge_lb.{module}")
    return int(guarded(lambda: getattr(found, verbs[verb])(chosen.config)))


if __name__ == "__main__":
    sys.exit(main())
