"""A private network for running BPF programs: one namespace with routes and neighbours, no traffic.

Owns the set-up that route look-ups of a test run need. Used by the self test, the tests and the
benchmark. The namespace has no name and belongs to the calling thread: it disappears at the end of
the `with` block, or with the process.

`in0` holds 10.50.0.1/24 and a gateway to 10.60.0.0/16, where tunnelled reals are; `out0` holds
10.51.0.1/24 and forwards nothing that comes in by it. Their peers in1 and out1 are silent. For IPv6
the same with fd50::1/64, fd60::/16 and fd51::1/64.
"""

import os
from pathlib import Path
from socket import AF_INET6
from types import TracebackType
from typing import Self

from pyroute2 import IPRoute

from bpf import libbpf
from bpf.program import Program, interface_index

GATEWAY = "10.50.0.254"
TUNNEL_SOURCE = "10.50.0.1"
FAR_NETWORK = "10.60.0.0/16"
REFUSED_NETWORK = "10.70.0.0/16"
NEAR_REAL = "10.51.0.2"  # on out0's subnet, neighbour known
SILENT_REAL = "10.51.0.9"  # on out0's subnet, neighbour unknown
SAME_SIDE_REAL = "10.50.0.2"  # on in0's subnet, neighbour known
GATEWAY_V6 = "fd50::fe"
TUNNEL_SOURCE_V6 = "fd50::1"
FAR_NETWORK_V6 = "fd60::/16"
NEAR_REAL_V6 = "fd51::2"
NEIGHBOURS = {
    GATEWAY: ("in0", "02:00:00:00:00:fe"),
    SAME_SIDE_REAL: ("in0", "02:00:00:00:00:02"),
    NEAR_REAL: ("out0", "02:00:00:00:01:02"),
    GATEWAY_V6: ("in0", "02:00:00:00:00:fe"),
    NEAR_REAL_V6: ("out0", "02:00:00:00:01:06"),
}
IFA_F_NODAD = 0x02
MTU = 2000  # room for a test of the data plane's own limit


class Workbench:
    """The namespace, entered by `with`; the calling thread stays on one CPU meanwhile."""

    def __init__(self) -> None:
        self._old_network = -1
        self._old_cpus: set[int] = set()
        self._attached: dict[str, int] = {}
        self.cpu = min(os.sched_getaffinity(0))
        self.in_ifindex = 0
        self.out_ifindex = 0

    def __enter__(self) -> Self:
        self._old_cpus = os.sched_getaffinity(0)
        self._old_network = libbpf.enter_new_network()
        try:
            os.sched_setaffinity(0, {self.cpu})
            self._build()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def release(self, interface: str) -> None:
        """Takes the quiet program off `interface`, so that another can be attached."""
        link = self._attached.pop(interface, None)
        if link is not None:
            os.close(link)

    def _leave(self) -> None:
        for link in self._attached.values():
            os.close(link)
        self._attached.clear()
        os.sched_setaffinity(0, self._old_cpus)
        libbpf.return_to_network(self._old_network)

    def _build(self) -> None:
        with IPRoute() as netlink:
            for name, peer in (("in0", "in1"), ("out0", "out1")):
                netlink.link("add", ifname=name, kind="veth", peer={"ifname": peer})
            for name in ("lo", "in0", "in1", "out0", "out1"):
                index = interface_index(name)
                netlink.link(
                    "set", index=index, state="up", **({} if name == "lo" else {"mtu": MTU})
                )
            self.in_ifindex, self.out_ifindex = interface_index("in0"), interface_index("out0")
            netlink.addr("add", index=self.in_ifindex, address=TUNNEL_SOURCE, prefixlen=24)
            netlink.addr("add", index=self.out_ifindex, address="10.51.0.1", prefixlen=24)
            for index, address in (
                (self.in_ifindex, TUNNEL_SOURCE_V6),
                (self.out_ifindex, "fd51::1"),
            ):
                netlink.addr("add", index=index, address=address, prefixlen=64, flags=IFA_F_NODAD)
            for address, (name, mac) in NEIGHBOURS.items():
                index = interface_index(name)
                netlink.neigh("add", dst=address, lladdr=mac, ifindex=index, state="permanent")
            netlink.route("add", dst=FAR_NETWORK, gateway=GATEWAY)
            netlink.route("add", dst=FAR_NETWORK_V6, gateway=GATEWAY_V6, family=AF_INET6)
            netlink.route("add", dst=REFUSED_NETWORK, type="unreachable")
        for name, forwards in (("all", "1"), ("lo", "1"), ("in0", "1"), ("out0", "0")):
            for family in ("ipv4", "ipv6"):
                setting = Path(f"/proc/sys/net/{family}/conf/{name}/forwarding")
                setting.write_text(forwards, encoding="ascii")
        # A test run may name an interface only when its driver has an XDP queue, so attach one.
        with Program.load("pass") as quiet:
            for name in ("in0", "out0"):
                self._attached[name] = quiet.attach_for_process(name)
