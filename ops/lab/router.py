"""The lab's router: BIRD 2, which hears the edges' VIPs by BGP and makes them ECMP in its kernel.

Owns BIRD's configuration and the reading of what the router's kernel routes. With resilient groups
BIRD writes to a table of its own, and `ops.lab.resilient` keeps the routes that packets follow.
"""

from __future__ import annotations

from pyroute2 import NetNS

from ops.lab.topology import EDGES, ROUTER_NAMESPACE, SITES, segment_of

AS = 65000
HOLD_S = 6
BGP_TABLE = 100  # where BIRD writes for `ops.lab.resilient` to read
_MAIN_TABLE = 254


def site_as(site: str) -> int:
    """The AS number of a site's edges."""
    return AS + 1 + SITES.index(site)


def router_address(edge_name: str) -> str:
    """The router's address on an edge's segment."""
    edge = next(edge for edge in EDGES if edge.name == edge_name)
    return segment_of(edge).router.partition("/")[0]


def bird_conf(*, resilient: bool) -> str:
    """One session an edge; equal routes become one route by several ways."""
    table = f"  kernel table {BGP_TABLE};\n" if resilient else ""
    sessions = "".join(
        f"protocol bgp '{edge.name}' {{\n"
        f"  local {router_address(edge.name)} as {AS};\n"
        f"  neighbor {edge.address} as {site_as(edge.site)};\n"
        f"  hold time {HOLD_S};\n"
        "  connect delay time 1;\n"
        "  error wait time 1, 4;\n"
        "  ipv4 { import all; export none; };\n"
        "}\n"
        for edge in EDGES
    )
    return (
        f"router id {router_address(EDGES[0].name)};\n"
        "protocol device { scan time 2; }\n"
        f"protocol kernel {{\n{table}"
        "  merge paths yes;\n"
        "  ipv4 { import none; export where source = RTS_BGP; };\n"
        f"}}\n{sessions}"
    )


def ways(*, table: int = _MAIN_TABLE) -> dict[str, set[str]]:
    """The gateways that the router's kernel has for each VIP's address."""
    found: dict[str, set[str]] = {}
    with NetNS(ROUTER_NAMESPACE) as router:
        for route in router.get_routes(family=2, table=table):
            hops = route.get_attr("RTA_MULTIPATH") or [route]
            gateways = {hop.get_attr("RTA_GATEWAY") for hop in hops} - {None}
            if route["dst_len"] == 32 and gateways:
                found[route.get_attr("RTA_DST")] = gateways
    return found
