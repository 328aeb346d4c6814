"""The BGP speaker beside the agent: from edge.toml to a running ExaBGP.

Owns `python -m edge_lb announce`: from `[bgp]` it writes ExaBGP's configuration and becomes ExaBGP,
which starts `edge_lb.announcer` and reads routes from it. Not part of the agent: neither needs the
other to live.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

from edge_lb.edge_daemon import load_edge
from edge_lb.exabgp import configuration
from gslb.fleet.host import BgpSection, EdgeHost
from gslb.service.lifecycle import ExitCode, Refused

CONFIGURATION = "exabgp.conf"  # in the edge's state directory
_SETTINGS = {
    "exabgp_api_ack": "false",  # what is announced is said anew after every restart
    "exabgp_api_cli": "false",
    "exabgp_daemon_drop": "false",  # its child opens pins, which are root's
    "exabgp_daemon_user": "root",
    "exabgp_log_destination": "stderr",
    "exabgp_log_level": "INFO",
}


def check_announce(path: Path) -> int:
    """Check the configuration and say so."""
    host, bgp = load_bgp(path)
    count = len(bgp.neighbors)
    sys.stdout.write(f"{path}: good; {host.host.name} tells {count} routers of its VIPs\n")
    return ExitCode.DONE


def run_announce(path: Path) -> NoReturn:
    """Write ExaBGP's configuration and become ExaBGP."""
    host, bgp = load_bgp(path)
    if importlib.util.find_spec("exabgp") is None:
        text = "the Python package exabgp is missing; `pip install exabgp`"
        raise Refused(ExitCode.UNSUPPORTED, text)
    if any(letter.isspace() or letter in "\"';" for letter in f"{path.resolve()}{sys.executable}"):
        text = f"{path}: ExaBGP takes no spaces and quotes in paths; put the file elsewhere"
        raise Refused(ExitCode.CONFIG, text)
    state_dir = Path(host.host.state_dir)
    state_dir.mkdir(parents=True, exist_ok=True)
    file = state_dir / CONFIGURATION
    file.write_text(configuration(bgp, announcer_argv(path.resolve())))
    argv = [sys.executable, "-P", "-m", "exabgp", "server", str(file)]
    sys.stdout.flush()
    os.execve(argv[0], argv, {**os.environ, **_SETTINGS})


def load_bgp(path: Path) -> tuple[EdgeHost, BgpSection]:
    """The host file with its `[bgp]`. ConfigError, or Refused where there is none."""
    host, _ = load_edge(path)
    if host.bgp is None:
        text = f"{path}: $.bgp: missing; without it nothing is announced"
        raise Refused(ExitCode.CONFIG, text)
    return host, host.bgp


def announcer_argv(path: Path) -> list[str]:
    """The command line of the process that ExaBGP starts."""
    return [sys.executable, "-P", "-m", "edge_lb", "announcer", "--config", str(path)]
