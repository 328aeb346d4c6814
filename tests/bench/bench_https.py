"""Requests a second of the HTTPS service beside nginx, by h2load over loopback, in turn.

Run by hand: `.venv/bin/python tests/bench/bench_https.py [--seconds 1.5] [--rounds 3]`. Every case
is measured once a round, ours and the peer's one after the other, so that a busy machine troubles
both alike. nginx returns a static JSON of the same size over the same certificate: it computes
nothing, and so is the ceiling rather than an equal. Bounded to about 40 s. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.unit.https_stand import Stand, free_port  # noqa: E402

CONNECTIONS, STREAMS = 8, 8
_RATE = re.compile(r"finished in [\d.]+s, ([\d.]+) req/s")
_FAILED = re.compile(r"(\d+) failed")
_DNS = bytes.fromhex("000000000001000000000000") + b"\3www\7example\3com\0\0\1\0\1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is measured."""

    name: str
    url: str
    h1: bool


def h2load(case: Case, seconds: float) -> float:
    """Requests a second of one run; ends the program if any request failed."""
    duration = f"{seconds * 1000:.0f}ms"
    command = ["h2load", "-t1", f"-c{CONNECTIONS}", "-D", duration, "--warm-up-time=300ms"]
    command += ["--h1"] if case.h1 else [f"-m{STREAMS}"]
    run = subprocess.run([*command, case.url], capture_output=True, text=True, timeout=60)
    rate, failed = _RATE.search(run.stdout), _FAILED.search(run.stdout)
    if rate is None or failed is None or int(failed[1]):
        sys.exit(f"{case.name}: h2load failed:\n{run.stdout}{run.stderr}")
    return float(rate[1])


def start_nginx(folder: Path, stand: Stand, port: int) -> subprocess.Popen[bytes] | None:
    """nginx with one worker on loopback, or None where it is not installed."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        return None
    body = '{"generation":1,"client":"127.0.0.1","names":[{"name":"www.example.com","addresses":'
    body += '{"A":["192.0.2.10","192.0.2.11"]},"ttl_s":30}],"schema":"waypost/resolve/1"}'
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 256; }}
http {{ access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {stand.certificate};
    ssl_certificate_key {stand.private_key};
    location / {{ default_type application/json; return 200 '{body}'; }} }} }}
"""
    )
    return subprocess.Popen([nginx, "-c", str(config), "-p", str(folder)])


def main() -> None:
    """Measure, print a table, and one JSON line at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        stand = Stand(folder)
        stand.start()
        port = free_port()
        peer = start_nginx(folder, stand, port)
        try:
            time.sleep(0.5)
            results = measure(cases(stand, port if peer else 0), options.seconds, options.rounds)
        finally:
            stand.stop()
            if peer is not None:
                peer.terminate()
                peer.wait(10)
    report(results, peer=peer is not None)


def cases(stand: Stand, peer_port: int) -> list[Case]:
    """Ours by dialect and HTTP version, each beside the peer's."""
    ours = f"https://127.0.0.1:{stand.port}"
    native = f"{ours}/v1/resolve?name=www.example.com&type=A"
    doh = f"{ours}/dns-query?dns={urlsafe_b64encode(_DNS).decode().rstrip('=')}"
    found: list[Case] = []
    for version, h1 in (("h1", True), ("h2", False)):
        found.append(Case(name=f"native_{version}", url=native, h1=h1))
        found.append(Case(name=f"doh_{version}", url=doh, h1=h1))
        if peer_port:
            url = f"https://127.0.0.1:{peer_port}/"
            found.append(Case(name=f"nginx_static_{version}", url=url, h1=h1))
    return found


def measure(found: list[Case], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Every case once a round."""
    results: dict[str, list[float]] = {case.name: [] for case in found}
    for _ in range(rounds):
        for case in found:
            results[case.name].append(h2load(case, seconds))
    return results


def report(results: dict[str, list[float]], *, peer: bool) -> None:
    """A table for people, then one line for machines."""
    print(f"{'case':<18}{'median req/s':>14}{'lowest':>10}{'highest':>10}")
    for name, rates in results.items():
        low, high = min(rates), max(rates)
        print(f"{name:<18}{statistics.median(rates):>14,.0f}{low:>10,.0f}{high:>10,.0f}")
    if not peer:
        print("nginx is not installed: no peer in this run")
    line = {
        name: {"median": round(statistics.median(rates)), "min": min(rates), "max": max(rates)}
        for name, rates in results.items()
    }
    setup = {"workers": 1, "connections": CONNECTIONS, "streams": STREAMS, "tls": "1.3"}
    print(json.dumps({"bench": "https", "unit": "req/s", "setup": setup, "results": line}))


if __name__ == "__main__":
    main()
