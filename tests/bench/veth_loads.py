"""What a client does to each balancer in bench_veth.py, and the proof that it went where it should.

Owns the targets, the loads, and one run of one load against one target. Of Waypost each run is
proved by its counters: what the router gave to the edge is what the VIP counted, none was dropped,
and each packet left longer by its tunnel. Of all of them by the answers: both reals gave some.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from veth_files import PEERS, PORT, UDP_PORT, BenchVip, Site, address
from veth_world import Link, VethWorld

from gslb.fleet.model import Encap

VIP_ADDRESSES = {Encap.L2: "192.0.2.11", Encap.IPIP: "192.0.2.12", Encap.GUE: "192.0.2.13"}
VIP_V6 = "2001:db8:90::13"
TUNNEL_BYTES = {Encap.L2: 0, Encap.IPIP: 20, Encap.GUE: 32}
ETHERNET_BYTES = 14  # veth counts it of what a program sent, and not of what the stack did
TUNNEL_SLACK = 4  # bytes a packet, for the probes that pass the edge meanwhile
CHECKS_A_SECOND = 100  # packets of health checks at most, that the edge gets besides
UDP_FLOWS = 100
SENDER_CORE = 0
_H2LOAD = re.compile(r"finished in [\d.]+m?s, ([\d.]+) req/s")
_H2LOAD_FAILED = re.compile(r"(\d+) failed")
_AB = re.compile(r"Requests per second:\s+([\d.]+)")
_AB_FAILED = re.compile(r"Failed requests:\s+(\d+)")

SITE = Site(
    vips=(
        *(
            BenchVip(name=encap.value, address=where, encap=encap)
            for encap, where in VIP_ADDRESSES.items()
        ),
        *(
            BenchVip(
                name=f"{encap.value}-udp",
                address=where,
                encap=encap,
                protocol="udp",
                port=UDP_PORT,
            )
            for encap, where in VIP_ADDRESSES.items()
        ),
        BenchVip(name="v6-udp", address=VIP_V6, encap=Encap.GUE, protocol="udp", port=UDP_PORT),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom the client asks, and the host that balances. Waypost's are VIPs, and have a tunnel."""

    name: str
    address: str
    via: str
    encap: Encap | None = None
    tcp_vip: str = ""
    udp_vip: str = ""
    by_tcp: bool = True
    by_udp: bool = True


TARGETS = (
    *(
        Target(
            name=f"waypost {encap.value}",
            address=where,
            via="edge",
            encap=encap,
            tcp_vip=encap.value,
            udp_vip=f"{encap.value}-udp",
        )
        for encap, where in VIP_ADDRESSES.items()
    ),
    Target(
        name="waypost gue, IPv6",
        address=VIP_V6,
        via="edge",
        encap=Encap.GUE,
        udp_vip="v6-udp",
        by_tcp=False,
    ),
    *(
        Target(name=peer, address=where, via="proxy", by_udp=peer != "haproxy")
        for peer, where in PEERS.items()
    ),
    Target(name="no balancer", address=address("real1"), via="real1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the client does by TCP; `unit_bytes` of payload move with each request of a bulk."""

    name: str
    flows: int
    path: str = "/"
    unit_bytes: int = 0
    new_connections: bool = False
    upload: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One load against one target: requests, packets into the balancer, CPU, all a second."""

    rate: float
    packets: float
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Small packets at one offered rate; `asked`, `sent`, `arrived`, `packets` are a second."""

    asked: float
    sent: float
    arrived: float  # at the reals, or back at the client
    lost: float  # share of the sent
    packets: float  # into the balancer
    cpu_s: float  # for a million that arrived


class UnprovenError(RuntimeError):
    """A run did not measure what its name says."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Readings at one instant."""

    at_s: float
    cpu_s: float
    link: Link

    def since(self, earlier: Moment) -> tuple[float, float, float]:
        """Seconds passed; CPU, and packets into the balancer, a second."""
        took_s = self.at_s - earlier.at_s
        packets = self.link.packets_out - earlier.link.packets_out
        return took_s, (self.cpu_s - earlier.cpu_s) / took_s, packets / took_s


def moment(world: VethWorld, target: Target) -> Moment:
    """Now, for the host that balances."""
    return Moment(time.monotonic(), busy_cpu_s(), world.link(target.via))


def busy_cpu_s() -> float:
    """Seconds that all cores together were busy since boot."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, irq, softirq, _stolen = ticks
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


@contextmanager
def proved(world: VethWorld, target: Target, vip: str, flows: int) -> Iterator[None]:
    """Raises UnprovenError unless the VIP's counters moved as the block's packets say."""
    if target.encap is None:
        yield
        return
    counted, began = _counters(world, vip), moment(world, target)
    yield
    world.arrived()  # nothing is on the way any more
    ended = moment(world, target)
    packets, dropped, new = (
        now - before for now, before in zip(_counters(world, vip), counted, strict=True)
    )
    took_s, given = ended.at_s - began.at_s, ended.link.packets_out - began.link.packets_out
    longer = ended.link.size_in(began.link) - ended.link.size_out(began.link) - ETHERNET_BYTES
    checks = CHECKS_A_SECOND * (took_s + 1)
    faults = {
        f"{given} packets given to the edge": not 0 <= given - packets <= checks,
        f"{dropped} dropped": dropped != 0,
        f"{new} new flows, not {flows}": new < flows,
        f"each left {longer:.1f} bytes longer": abs(longer - TUNNEL_BYTES[target.encap])
        > TUNNEL_SLACK,
    }
    if any(faults.values()):
        said = "; ".join(fault for fault, is_so in faults.items() if is_so)
        raise UnprovenError(f"{target.name}: VIP {vip} counted {packets} packets, but {said}")


def run(world: VethWorld, load: Load, target: Target, upload: Path, seconds: float) -> Sample:
    """One load by TCP against one target."""
    with proved(world, target, target.tcp_vip, load.flows):
        if load.new_connections or load.unit_bytes:
            return _by_tool(world, load, target, upload, max(1, round(seconds)))
        return _by_flows(world, load, target, seconds)


def _by_flows(world: VethWorld, load: Load, target: Target, seconds: float) -> Sample:
    command = [world.tool("flows"), target.address, str(PORT), str(load.flows), str(seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        world.inside("client", *command), stdin=pipe, stdout=pipe, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise UnprovenError(f"{load.name} against {target.name}: the flows did not open")
        began = moment(world, target)
        child.stdin.write("\n")
        child.stdin.flush()
        said = child.stdout.readline()
        _, cpu, packets = moment(world, target).since(began)
    answer = json.loads(said)
    reals = [count for count in answer["answers"] if count]
    if load.flows >= UDP_FLOWS and len(reals) != (1 if target.via == "real1" else 2):
        raise UnprovenError(f"{load.name} against {target.name}: answers by real are {reals}")
    return Sample(rate=sum(reals) / answer["seconds"], packets=packets, cpu=cpu)


def _by_tool(world: VethWorld, load: Load, target: Target, upload: Path, seconds: int) -> Sample:
    url = f"http://{target.address}{load.path}"
    if load.new_connections:
        command = ["ab", "-q", "-r", f"-t{seconds}", "-n1000000", f"-c{load.flows}", url]
        rate_of, failed_of = _AB, _AB_FAILED
    else:
        command = ["h2load", "--h1", "-t1", f"-c{load.flows}", f"-D{seconds}"]
        command += [f"-d{upload}"] if load.upload else []
        command.append(url)
        rate_of, failed_of = _H2LOAD, _H2LOAD_FAILED
    began = moment(world, target)
    output = world.run("client", *command)
    _, cpu, packets = moment(world, target).since(began)
    rate, failed = rate_of.search(output), failed_of.search(output)
    if rate is None or failed is None or int(failed[1]):
        raise UnprovenError(f"{load.name} against {target.name}:\n{output}")
    return Sample(rate=float(rate[1]), packets=packets, cpu=cpu)


def send_packets(
    world: VethWorld, target: Target, asked: float, *, seconds: float, echo: bool
) -> Step:
    """Small UDP packets at one offered rate, and how many of them arrived, or came back."""
    command = ["taskset", "-c", str(SENDER_CORE), world.tool("packets"), "send", target.address]
    command += [str(UDP_PORT), str(UDP_FLOWS), str(asked), str(seconds), "E" if echo else "S"]
    before, began = world.arrived(), moment(world, target)
    answer = json.loads(world.run("client", *command))
    ended, arrived = moment(world, target), world.arrived() - before
    took_s, sent = answer["seconds"], answer["sent"]
    if not sent or answer["answered"] > arrived:
        raise UnprovenError(f"{target.name}: {arrived} packets at the reals, but {answer}")
    if echo:
        arrived = answer["answered"]
    return Step(
        asked=asked,
        sent=sent / took_s,
        arrived=arrived / took_s,
        lost=1 - arrived / sent,
        packets=(ended.link.packets_out - began.link.packets_out) / took_s,
        cpu_s=(ended.cpu_s - began.cpu_s) / max(1, arrived) * 1e6,
    )


def _counters(world: VethWorld, name: str) -> tuple[int, int, int]:
    """Of a VIP: packets, those dropped, and new flows."""
    (vip,) = (vip for vip in world.ask("/vips")["vips"] if vip["name"] == name)
    return vip["packets"], vip["dropped"], vip["flows_new"]
