"""What it costs a real to count its flows: 112,000 true sockets, read from the kernel and counted.

In a network namespace of its own, seven processes hold 8,000 connections to a VIP each, both ends
of every one: half of the sockets are of the VIPs, the others are not. CPU time of one core: of the
kernel's list, of the first round that hashes all, of later ones, of the report; pyroute2's own
reader of the same list beside it, once. `--quick` holds a tenth. Needs root. The last line is
one JSON object.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from pyroute2 import DiagSocket, NetNS, netns

from edge_lb import socket_dump
from edge_lb.census import Census
from gslb.fleet.model import Protocol, VipName
from ops.lab.world import inside

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from site_fleet import WEB1, vip

HOLDERS, CONNECTIONS, PORT, ROUNDS = 7, 8_000, 8080, 7
CLIENT_PORT = 10_000  # the first of each holder's


def address_of(number: int) -> IPv4Address:
    """The VIP of a holder."""
    return IPv4Address(f"127.0.0.{number + 1}")


def hold(number: int, connections: int, ready: int) -> None:
    """Be a server and its clients until killed."""
    server = socket.create_server((str(address_of(number)), PORT), backlog=1024)
    held = []
    for port in range(CLIENT_PORT, CLIENT_PORT + connections):
        own = (f"127.1.{number}.1", port)
        client = socket.create_connection(server.getsockname(), source_address=own)
        held.append((client, server.accept()))
    os.write(ready, b".")
    signal.pause()


def started(connections: int) -> list[int]:
    """The holders, all of them ready."""
    heard, ready = os.pipe()
    holders = []
    for number in range(HOLDERS):
        if (child := os.fork()) == 0:
            hold(number, connections, ready)
        holders.append(child)
    told = 0
    while told < HOLDERS:
        told += len(os.read(heard, HOLDERS))
    return holders


def measured(connections: int) -> dict[str, float]:
    """Seconds of each part."""
    vips = [
        replace(vip(VipName(f"v{number}"), PORT, (WEB1,)), address=address_of(number))
        for number in range(HOLDERS)
    ]
    census = Census(Protocol.TCP)
    census.watch(vips)
    parts: dict[str, list[float]] = {"dump": [], "take": [], "report": []}
    for _ in range(ROUNDS):
        marks = [time.process_time()]
        found = socket_dump.dump(socket.AF_INET, socket.IPPROTO_TCP, socket_dump.IN_FLIGHT)
        marks.append(time.process_time())
        census.take(found, time.time())
        marks.append(time.process_time())
        flows = census.flows()
        marks.append(time.process_time())
        for number, part in enumerate(parts.values()):
            part.append(marks[number + 1] - marks[number])
    assert [one.flows for one in flows] == [connections] * HOLDERS, flows
    begun_s = time.process_time()
    with DiagSocket() as reader:
        reader.bind()
        states = socket_dump.IN_FLIGHT
        others = sum(1 for _ in reader.get_sock_stats(family=socket.AF_INET, states=states))
    pyroute2_s = time.process_time() - begun_s
    assert others == len(found)
    return {
        "sockets": len(found),
        "dump_s": round(statistics.median(parts["dump"]), 3),
        "take_first_s": round(parts["take"][0], 3),
        "take_s": round(statistics.median(parts["take"][1:]), 3),
        "report_s": round(statistics.median(parts["report"]), 3),
        "report_octets": sum(len(one.slots) for one in flows),
        "pyroute2_s": round(pyroute2_s, 1),
    }


def main() -> None:
    """Measure, and say it."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--quick", action="store_true")
    connections = CONNECTIONS // (10 if asked.parse_args().quick else 1)
    name = f"census-bench-{os.getpid()}"
    netns.create(name)
    holders: list[int] = []
    try:
        with NetNS(name) as namespace:
            namespace.link("set", index=1, state="up")
        with inside(name):
            holders = started(connections)
            found = measured(connections)
    finally:
        for holder in holders:
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
        netns.remove(name)
    for what, number in found.items():
        print(f"{what:16} {number:>12}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
