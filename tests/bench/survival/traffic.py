"""Connections: when each begins and ends, how often it speaks, and where its flow hash leads.

Owns the flows of a run. They are true 5-tuples, hashed as `edge_lb.flow` does, a thousand at a
time; tests hold both equal. Deterministic: all chance comes from the generator it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np

from bpf.services import MULTIPLIER
from edge_lb.flow import FINISH, SEED, Flow

from .maglev import MAGLEV_SLOTS
from .tables import RING_SLOTS

VIP, VIP_PORT, TCP = IPv4Address("198.51.100.1"), 443, 6
POOL_PER_CONNECTION = 4  # numbers of flows; one is given again only after so many others

# Hadoop's flows (share of connections, seconds), as JET (CoNEXT 2021) and Cheetah (NSDI 2020) use
HADOOP_S = (
    (0.2933579336, 0.001),
    (0.3782287823, 0.002001660865),
    (0.405904059, 0.002989009054),
    (0.4520295203, 0.008934175126),
    (0.4760147601, 0.02549699459),
    (0.5018450185, 0.3100950157),
    (0.5479704797, 10.27643336),
    (0.7601476015, 10.43614193),
    (0.8985239852, 22.91478965),
    (0.9280442804, 36.39509637),
    (0.9483394834, 100.7122436),
    (0.9575645756, 214.4188863),
    (0.9981549815, 228.0621963),
    (1.0, 602.5595861),
)


class HadoopDurations:
    """Half of all end within a third of a second, one of five hundred lasts minutes."""

    longest_s = HADOOP_S[-1][1]

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Seconds, between the published points by straight lines."""
        shares, seconds = zip((0.0, 0.0), *HADOOP_S, strict=True)
        return np.interp(rng.random(count), shares, seconds)


class LongDurations:
    """A mean of half an hour and a tail of hours: log-normal, cut off."""

    longest_s = 4 * 3600.0
    _MEDIAN_S, _SIGMA = 1092.0, 1.0

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Seconds."""
        return np.minimum(rng.lognormal(np.log(self._MEDIAN_S), self._SIGMA, count), self.longest_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many connections at once, how long, and the seconds between their packets.

    Each has a mean gap of its own, log-uniform between `gap_s`; packets come at random.
    """

    concurrent: int
    durations: HadoopDurations | LongDurations
    gap_s: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What the clients send in one stretch of time."""

    born: np.ndarray  # flows that begin
    packets: np.ndarray  # a flow for each packet, in order; the first of each new flow is there
    spoke: np.ndarray  # older flows with a packet, each once
    counts: np.ndarray  # of packets, of each of `spoke`


class Connections:
    """All flows of a run, by number; a number is given again once its flow ended long ago."""

    def __init__(self, load: Load, rng: np.random.Generator) -> None:
        self._load, self._rng = load, rng
        sample_s = load.durations.draw(rng, 200_000)
        self.rate = load.concurrent / float(sample_s.mean())
        self.pool = POOL_PER_CONNECTION * load.concurrent
        self._free = np.arange(self.pool, dtype=np.int32)
        self.client = np.zeros(self.pool, np.uint32)  # as the CPU reads it from the packet
        self.port = np.zeros(self.pool, np.uint16)
        self.hash = np.zeros(self.pool, np.uint64)
        self.slot = np.zeros(self.pool, np.int32)  # of an edge's ring, and of rows
        self.maglev_slot = np.zeros(self.pool, np.int32)
        self.route = np.zeros(self.pool, np.uint32)  # the router's own hash
        self.end_s = np.zeros(self.pool)
        self.gap_s = np.ones(self.pool, np.float32)
        self.live = np.zeros(0, np.int32)
        self.begun = 0
        # A steady state: longer ones are met more often, each somewhere in its life.
        chance = sample_s / sample_s.sum()
        lasting_s = rng.choice(sample_s, load.concurrent, p=chance) * rng.random(load.concurrent)
        self.live = self._begin(lasting_s)

    def tick(self, now_s: float, length_s: float) -> Tick:
        """From `now_s` on, `length_s` long: who begins, who speaks, who ends."""
        rng = self._rng
        spoke_counts = rng.poisson(np.float32(length_s) / self.gap_s[self.live])
        does_speak = spoke_counts > 0
        spoke, counts = self.live[does_speak], spoke_counts[does_speak]
        begun = rng.poisson(self.rate * length_s)
        born = self._begin(now_s + self._load.durations.draw(rng, begun))
        packets = rng.permutation(np.concatenate([born, np.repeat(spoke, counts)]))
        return Tick(born=born, packets=packets, spoke=spoke, counts=counts)

    def end(self, tick: Tick, until_s: float) -> None:
        """Those that ended by then are live no more."""
        everyone = np.concatenate([self.live, tick.born])
        is_over = self.end_s[everyone] <= until_s
        self.live = everyone[~is_over]
        self._free = np.concatenate([self._free, everyone[is_over]])

    def flow(self, number: int) -> Flow:
        """As the data plane sees it."""
        return Flow(
            client=IPv4Address(int(self.client[number]).to_bytes(4, "little")),
            client_port=int(self.port[number]),
            vip=VIP,
            vip_port=VIP_PORT,
            protocol=TCP,
        )

    def _begin(self, end_s: np.ndarray) -> np.ndarray:
        count, rng = len(end_s), self._rng
        if count > len(self._free):
            raise ValueError("more connections at once than numbers for them")
        born, self._free = self._free[:count], self._free[count:]
        self.client[born] = rng.integers(0, 1 << 32, count, dtype=np.uint32)
        self.port[born] = rng.integers(1024, 1 << 16, count, dtype=np.uint16)
        self.hash[born] = flow_hashes(self.client[born], self.port[born])
        self.slot[born] = slots_of_hashes(self.hash[born], RING_SLOTS)
        self.maglev_slot[born] = slots_of_hashes(self.hash[born], MAGLEV_SLOTS)
        self.route[born] = rng.integers(0, 1 << 32, count, dtype=np.uint32)
        self.end_s[born] = end_s
        low, high = np.log(self._load.gap_s)
        self.gap_s[born] = np.exp(rng.uniform(low, high, count))
        self.begun += count
        return born


def flow_hashes(clients: np.ndarray, ports: np.ndarray) -> np.ndarray:
    """`edge_lb.flow.flow_hash` of many flows to VIP, at once."""
    vip = int.from_bytes(VIP.packed, "little")
    port_words = ports.byteswap().astype(np.uint64) | np.uint64(
        int.from_bytes(VIP_PORT.to_bytes(2, "big"), "little") << 16
    )
    value = _round(np.uint64(SEED), clients.astype(np.uint64) | np.uint64(vip << 32))
    value = _round(value, port_words | np.uint64(TCP << 32))
    value = value * np.uint64(FINISH)
    return value ^ value >> np.uint64(32)


def slots_of_hashes(hashes: np.ndarray, slots: int) -> np.ndarray:
    """`edge_lb.flow.slot_of_hash` of many, at once, for a ring of so many slots."""
    return ((hashes >> np.uint64(32)) * np.uint64(slots) >> np.uint64(32)).astype(np.int32)


def _round(value: np.ndarray | np.uint64, words: np.ndarray) -> np.ndarray:
    mixed = (value ^ words) * np.uint64(MULTIPLIER)
    return mixed ^ mixed >> np.uint64(32)
