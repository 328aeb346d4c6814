"""The self test's packets through the source filter.

Owns the cases of the verdicts that the filter gives, and the writing of single rules and limits for
them. Used by `bpf.selftest`; the agent's rules are written by `edge_lb.filter_maps`.
"""

from ipaddress import ip_network

from bpf.packets import SYN, TCP, ethernet, ipv4, tcp
from bpf.trial import BOUND_VIP, TUNNELLED, Balancer, Case
from bpf.workbench import TUNNEL_SOURCE

ALL_VIPS = 0  # as a scope; a VIP's own is its index + 1
SCOPE_BITS = 32
CLIENT = "198.18.0.7"
WIDE, INNER = "198.18.0.0/15", "198.18.0.0/24"
SECOND_TICKS = 16_000_000_000
NEVER_FULL = 1 << 62  # centuries ahead: the bucket is empty


def write_rule(balancer: Balancer, prefix: str, action: str, *, scope: int = ALL_VIPS) -> None:
    """Writes a rule, of one token a second if it limits; its number is the prefix's length."""
    network = ip_network(prefix)
    trie = balancer.program.maps[f"filter_ipv{network.version}"]
    key = trie.shape.key.pack(
        prefix_bits=SCOPE_BITS + network.prefixlen,
        scope=scope,
        address=network.network_address.packed,
    )
    pace = {"interval_ticks": SECOND_TICKS, "room_ticks": 0}
    trie.put(key, trie.shape.value.pack(index=network.prefixlen, action=action, **pace))
    _switch_on(balancer)


def write_limit(balancer: Balancer, vip_index: int, *, interval: int, own_rules: bool) -> None:
    """Writes what is asked of one VIP after its look-up."""
    limits = balancer.program.maps["vip_limits"]
    value = limits.shape.value.pack(interval_ticks=interval, room_ticks=0, own_rules=int(own_rules))
    limits.put_at(vip_index, value)
    _switch_on(balancer)


def write_bucket(balancer: Balancer, buckets: str, index: int, *, full_at: int) -> None:
    """Sets the moment at which a bucket is full again."""
    held = balancer.program.maps[buckets]
    held.put_at(index, held.shape.value.pack(full_at_ticks=full_at))


def with_denied_prefix(balancer: Balancer) -> None:
    """The client's network is denied."""
    write_rule(balancer, WIDE, "FILTER_DENY")


def with_allowed_part(balancer: Balancer) -> None:
    """The client's network is denied, but for a part of it."""
    with_denied_prefix(balancer)
    write_rule(balancer, INNER, "FILTER_ALLOW")


def with_denied_prefix_of_vip(balancer: Balancer) -> None:
    """The client's network is denied to one VIP."""
    write_rule(balancer, WIDE, "FILTER_DENY", scope=TUNNELLED.octet + 1)
    write_limit(balancer, TUNNELLED.octet, interval=0, own_rules=True)


def with_full_bucket(balancer: Balancer) -> None:
    """The client's network is limited and was silent."""
    write_rule(balancer, WIDE, "FILTER_LIMIT")
    write_bucket(balancer, "filter_buckets", ip_network(WIDE).prefixlen, full_at=0)


def with_empty_bucket(balancer: Balancer) -> None:
    """The client's network has used up its rate."""
    write_rule(balancer, WIDE, "FILTER_LIMIT")
    write_bucket(balancer, "filter_buckets", ip_network(WIDE).prefixlen, full_at=NEVER_FULL)


def with_empty_vip_bucket(balancer: Balancer) -> None:
    """The VIP's clients have used up its limit."""
    write_limit(balancer, TUNNELLED.octet, interval=SECOND_TICKS, own_rules=False)
    write_bucket(balancer, "vip_buckets", TUNNELLED.octet, full_at=NEVER_FULL)


def _switch_on(balancer: Balancer) -> None:
    settings = balancer.program.maps["filter_settings"]
    settings.put_at(0, settings.shape.value.pack(ipv4_rules=1, ipv6_rules=0, vip_limits=1))


def _syn(destination: str = BOUND_VIP, port: int = 80) -> bytes:
    return ethernet(ipv4(CLIENT, destination, TCP, tcp(40000, port, SYN)))


FILTER_CASES = (
    Case(
        verdict="DROPPED_DENIED",
        name="a denied client",
        frame=_syn(),
        before=with_denied_prefix,
    ),
    Case(
        verdict="DROPPED_DENIED",
        name="a denied client, before its port is looked up",
        frame=_syn(port=81),
        before=with_denied_prefix,
    ),
    Case(
        verdict="DROPPED_DENIED",
        name="a client denied to this VIP",
        frame=_syn(),
        before=with_denied_prefix_of_vip,
    ),
    Case(
        verdict="FORWARDED_SYN",
        name="a client denied to another VIP",
        frame=_syn("192.0.2.5"),
        before=with_denied_prefix_of_vip,
    ),
    Case(
        verdict="FORWARDED_SYN",
        name="a client of an allowed part of a denied network",
        frame=_syn(),
        before=with_allowed_part,
    ),
    Case(
        verdict="PASSED_NOT_VIP",
        name="a denied client to the edge itself",
        frame=_syn(TUNNEL_SOURCE),
        before=with_denied_prefix,
    ),
    Case(
        verdict="FORWARDED_SYN",
        name="a limited client with a full bucket",
        frame=_syn(),
        before=with_full_bucket,
    ),
    Case(
        verdict="DROPPED_PREFIX_RATE",
        name="a limited client with an empty bucket",
        frame=_syn(),
        before=with_empty_bucket,
    ),
    Case(
        verdict="DROPPED_VIP_RATE",
        name="a VIP above its limit",
        frame=_syn(),
        before=with_empty_vip_bucket,
    ),
)
