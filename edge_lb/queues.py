"""Receive queues of an interface: each that can be in use gets flow memory of its own.

Called by `edge_lb.datapath` at a start. Reads by netlink, changes nothing.
"""

from pyroute2 import IPRoute

from bpf import libbpf, program


def receive_queues(interface: str) -> int:
    """How many receive queues can be in use: as many as there are cores at most.

    A queue beyond gets no table; its packets are forwarded by the ring and counted as such.
    """
    index = program.interface_index(interface)
    with IPRoute() as ip:
        (link,) = ip.get_links(index)
    offered = link.get("num_rx_queues") or link.get_attr("IFLA_NUM_RX_QUEUES") or 1
    return max(1, min(int(offered), libbpf.possible_cpus()))
