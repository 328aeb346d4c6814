"""Seconds to build every ring of a large site, by the library and by the reference.

256 VIPs of 100 reals, no real behind two of them, so that nothing is shared; the reference builds a
few and is not asked for all. CPU time of one core; the last line is one JSON object.
"""

import json
import statistics
import time

from edge_lb import fastring, maglev
from edge_lb.maglev import Member

VIPS, REALS, ROUNDS, REFERENCE_RINGS = 256, 100, 5, 4


def main() -> None:
    """Build, and print."""
    sites = [
        tuple(Member(name=f"v{vip}-r{real}", weight=100, index=real + 1) for real in range(REALS))
        for vip in range(VIPS)
    ]
    rounds: list[float] = []
    for _ in range(ROUNDS):
        started_s = time.process_time()
        for members in sites:
            fastring.build_ring(members)
        rounds.append(time.process_time() - started_s)
    started_s = time.process_time()
    for members in sites[:REFERENCE_RINGS]:
        maglev.build_ring(members)
    reference_s = (time.process_time() - started_s) / REFERENCE_RINGS * VIPS
    figures = {
        "bench": "rings",
        "vips": VIPS,
        "reals_per_vip": REALS,
        "seconds_median": round(statistics.median(rounds), 3),
        "seconds_lowest": round(min(rounds), 3),
        "seconds_highest": round(max(rounds), 3),
        "reference_seconds_from_a_few": round(reference_s, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
