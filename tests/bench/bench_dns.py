"""Queries a second of the DNS server over loopback: `python tests/bench/bench_dns.py`.

Ours with one and with two workers, beside Knot (`knotd`, if it is installed) with as many, asked by
dnsperf in turn over several rounds, about 40 s in all. Knot answers the same number of addresses
from a static zone: it neither shuffles nor knows health. Server and asker share the machine's
cores, so the figures compare, they do not promise. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROUNDS = 4
ROUND_S = 2
START_S = 15.0
QUERIES = "www.example.com A\nwww.example.com A\nmail.example.com A\nnope.example.com A\n"
ROOT = Path(__file__).parents[2]

FLEET = (
    """
[fleet]
name = "bench"
[site.s]
location = { country = "DE", lat = 50, lon = 8 }
edges = ["e"]
[real.r]
site = "s"
address = "10.0.0.1"
"""
    + "".join(
        f'[vip.v{n}]\nsite = "s"\naddress = "192.0.2.{n}"\nport = 80\nreals = ["r"]\n'
        for n in range(1, 9)
    )
    + """
[pool.p]
policy = "spread"
vips = ["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"]
answers = 2
[zone."example.com"]
file = "example.com.zone"
dynamic = { www = "p" }
"""
)
ZONE = """
$TTL 1h
@ IN SOA ns1.example.com. hostmaster.example.com. 1 2h 15m 2w 30
@ IN NS ns1
ns1 IN A 127.0.0.1
mail IN A 192.0.2.25
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One server: median and extremes of the rounds, in queries a second."""

    server: str
    workers: int
    median_qps: float
    lowest_qps: float
    highest_qps: float
    lost: int


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(argv: list[str], port: int) -> Iterator[int]:
    """The server as a child until the end of the block; its port once it answers."""
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the port takes TCP; RuntimeError if the server ended or never does."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} does not serve")


def ours(place: Path, workers: int) -> tuple[list[str], int]:
    """The command of our server, and its port."""
    port = free_port()
    home = place / f"waypost{workers}"
    home.mkdir()
    (home / "fleet.toml").write_text(FLEET)
    (home / "example.com.zone").write_text(ZONE)
    (home / "dns.toml").write_text(
        f'[host]\nname = "b"\nfleet = "fleet.toml"\nadmin_socket = "{home}/s"\n'
        f'state_dir = "{home}"\nlog_level = "error"\n[store]\npath = "{home}/store.db"\n'
        f'[dns]\nlisten = ["127.0.0.1:{port}"]\nworkers = {workers}\n'
    )
    return [sys.executable, "-m", "gslb", "--config", str(home / "dns.toml")], port


def knot(place: Path, workers: int) -> tuple[list[str], int]:
    """The command of Knot, and its port."""
    port = free_port()
    home = place / f"knot{workers}"
    home.mkdir()
    (home / "zone").write_text(ZONE + "www 30 IN A 192.0.2.1\nwww 30 IN A 192.0.2.2\n")
    (home / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  rundir: {home}\n  udp-workers: {workers}\n"
        f"  tcp-workers: 1\n  background-workers: 1\ndatabase:\n  storage: {home}\n"
        f"zone:\n  - domain: example.com\n    file: {home}/zone\n    zonefile-sync: -1\n"
        "    journal-content: none\n"
    )
    return ["knotd", "-c", str(home / "knot.conf")], port


def ask(port: int, queries: Path) -> tuple[float, int]:
    """Queries a second over one round, and how many were lost."""
    argv = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(queries)]
    argv += ["-l", str(ROUND_S), "-c", "8", "-q", "100", "-t", "2"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    rate = re.search(r"Queries per second:\s+([\d.]+)", done.stdout)
    lost = re.search(r"Queries lost:\s+(\d+)", done.stdout)
    if rate is None or lost is None:
        raise RuntimeError(f"dnsperf said nothing of queries: {done.stdout}")
    return float(rate.group(1)), int(lost.group(1))


def main() -> int:
    """Measure, print the figures, and the JSON line."""
    if shutil.which("dnsperf") is None:
        print("dnsperf is missing: apt-get install dnsperf")
        return 1
    contestants = [("waypost", ours, 1), ("waypost", ours, 2)]
    if shutil.which("knotd") is not None:
        contestants += [("knot", knot, 1), ("knot", knot, 2)]
    else:
        print("peer absent: apt-get install knot")
    load = os.getloadavg()[0]
    rounds: dict[tuple[str, int], list[tuple[float, int]]] = {}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        place = Path(temporary)
        queries = place / "queries"
        queries.write_text(QUERIES)
        ports = {}
        for name, make, workers in contestants:
            argv, port = make(place, workers)
            ports[name, workers] = stack.enter_context(running(argv, port))
        for number in range(ROUNDS):
            for key, port in ports.items():
                rounds.setdefault(key, []).append(ask(port, queries))
                rate = rounds[key][-1][0]
                print(f"round {number + 1}: {key[0]} with {key[1]} workers: {rate:,.0f} queries/s")
    figures = [
        Figure(
            server=name,
            workers=workers,
            median_qps=statistics.median(rate for rate, _ in found),
            lowest_qps=min(rate for rate, _ in found),
            highest_qps=max(rate for rate, _ in found),
            lost=sum(lost for _, lost in found),
        )
        for (name, workers), found in rounds.items()
    ]
    result = {
        "bench": "dns",
        "unit": "queries/s over loopback UDP, asker on the same cores",
        "cores": os.cpu_count(),
        "rounds": ROUNDS,
        "round_s": ROUND_S,
        "load_before": load,
        "figures": [asdict(figure) for figure in figures],
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
