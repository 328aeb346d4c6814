"""`python -m edge_lb agent|real --config FILE [--check | --undo]`: the daemons of a site.

Owns the command line only. Exit codes are those of `gslb.service.lifecycle.ExitCode`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_lb.edge_daemon import check_edge, run_edge, undo_edge
from edge_lb.real_agent import check_real, run_real, undo_real
from gslb.service.lifecycle import guarded

_VERBS = {
    "agent": {"run": run_edge, "check": check_edge, "undo": undo_edge},
    "real": {"run": run_real, "check": check_real, "undo": undo_real},
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
    return int(guarded(lambda: _VERBS[chosen.role][verb](chosen.config)))


if __name__ == "__main__":
    sys.exit(main())
