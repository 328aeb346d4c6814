"""Builds and removes the lab's network by pyroute2: namespaces, bridges, veth, addresses.

Owns every kernel object of the lab except processes and the daemons' pins. `build` expects a clean
machine, `remove` makes one whatever state a crash left. Never touches what is not the lab's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pyroute2 import IPRoute, NetNS, netns
from pyroute2.ethtool import Ethtool

from bpf.program import Program
from ops.lab import paths
from ops.lab.topology import (
    HOSTS,
    ROUTER_NAMESPACE,
    SEGMENTS,
    LabHost,
    Role,
    namespaces,
    segment_of,
)

_OFFLOADS = (
    # XDP sees the packet as it is in memory: a checksum left to hardware, or a packet larger than
    # the wire allows, would leave the edge as it came in.
    "tx-checksum-ip-generic",
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-udp-segmentation",
)

_ROUTER_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # A real answers from the VIP's address, which is routed to the edges: not a spoof here.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/fib_multipath_hash_policy": "1",  # layer 4: addresses and ports
    "net/ipv6/fib_multipath_hash_policy": "1",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the block with this thread in the namespace."""
    netns.pushns(namespace)
    try:
        yield
    finally:
        netns.popns()


def build() -> None:
    """Make the whole network. The machine must be clean of it; see `remove`."""
    for namespace in namespaces():
        netns.create(namespace)
    with inside(ROUTER_NAMESPACE):
        _sysctls(_ROUTER_SYSCTLS)
    with NetNS(ROUTER_NAMESPACE) as router:
        _up(router, "lo")
        for segment in SEGMENTS:
            router.link("add", ifname=segment.bridge, kind="bridge")
            index = router.link_lookup(ifname=segment.bridge)[0]
            router.link("set", index=index, mtu=segment.mtu, state="up")
            _address(router, index, segment.router)
            if segment.router_v6:
                _address(router, index, segment.router_v6)
    for host in HOSTS:
        _connect(host)
    for host in HOSTS:
        segment = segment_of(host)
        with NetNS(host.namespace) as ns:
            _up(ns, "lo")
            index = ns.link_lookup(ifname="eth0")[0]
            ns.link("set", index=index, mtu=segment.mtu, state="up")
            _address(ns, index, f"{host.address}/{segment.router.rpartition('/')[2]}")
            ns.route("add", dst="0.0.0.0/0", gateway=segment.router.partition("/")[0])
            if host.address_v6:
                _address(ns, index, f"{host.address_v6}/64")
                ns.route("add", dst="::/0", gateway=segment.router_v6.partition("/")[0])


def send_as_on_a_wire(interface: str) -> None:
    """Leave nothing to hardware that is not there: checksums filled in, no packet too large."""
    with Ethtool() as tool:
        current = tool.get_features(interface)
        for name in _OFFLOADS:
            feature = current.features.get(name)
            if feature is not None:
                feature.enable = False
        tool.set_features(interface, current)


def remove() -> list[str]:
    """Remove every namespace with the lab's prefix that exists; returns their names."""
    found = present()
    for name in found:
        with suppress(FileNotFoundError):
            netns.remove(name)
    return found


def present() -> list[str]:
    """The lab's namespaces that exist now."""
    return [name for name in netns.listnetns() if name in namespaces()]


def _connect(host: LabHost) -> None:
    """A veth pair: `eth0` in the host's namespace, its name on the segment's bridge."""
    segment = segment_of(host)
    with IPRoute() as here:
        here.link(
            "add",
            ifname=host.name,
            kind="veth",
            net_ns_fd=ROUTER_NAMESPACE,
            peer={"ifname": "eth0", "net_ns_fd": host.namespace},
        )
    with NetNS(ROUTER_NAMESPACE) as router:
        index = router.link_lookup(ifname=host.name)[0]
        bridge = router.link_lookup(ifname=segment.bridge)[0]
        router.link("set", index=index, mtu=segment.mtu, master=bridge, state="up")
    with inside(ROUTER_NAMESPACE):
        send_as_on_a_wire(host.name)
        if host.role is Role.EDGE:
            # What XDP_TX sends out of an edge's eth0 waits in this end's ring until something else
            # wakes it, unless an XDP program is attached here (veth_xdp_flush looks for one).
            pins = paths.PIN_DIR / f"router-{host.name}"
            with Program.load("pass", pin_dir=pins) as program:
                program.attach(host.name, pins)
    with inside(host.namespace):
        send_as_on_a_wire("eth0")
        _sysctls({"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/eth0/rp_filter": "0"})


def _sysctls(wanted: Mapping[str, str]) -> None:
    for key, value in wanted.items():
        (Path("/proc/sys") / key).write_text(value)


def _address(ns: NetNS, index: int, text: str) -> None:
    address, _, bits = text.partition("/")
    flags = {"flags": 0x02} if ":" in address else {}  # IFA_F_NODAD: usable at once
    ns.addr("add", index=index, address=address, prefixlen=int(bits), **flags)


def _up(ns: NetNS, interface: str) -> None:
    ns.link("set", index=ns.link_lookup(ifname=interface)[0], state="up")
