"""A real BIRD 2 as a router of the tests: its configuration, its life, what its kernel routes are.

Owned by the tests of this folder. Everything started here is ended here, by its process id.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from pyroute2 import NetNS

PATIENCE_S = 120.0


MAIN_TABLE = 254


def bird_text(
    neighbors: tuple[str, ...], *, router_id: str, hold_s: int = 9, table: int = MAIN_TABLE
) -> str:
    """A router of AS 65000 whose neighbors are edges of AS 65001, with ECMP over equal ones."""
    sessions = "".join(
        f"protocol bgp {{ local as 65000; neighbor {address} as 65001; hold time {hold_s};\n"
        "  connect delay time 1; error wait time 1, 2;\n"
        "  ipv4 { import all; export none; }; ipv6 { import all; export none; }; }\n"
        for address in neighbors
    )
    kernels = "".join(
        f"protocol kernel {{ {family} {{ export where source = RTS_BGP; import none; }};"
        f" merge paths yes; kernel table {table}; }}\n"
        for family in ("ipv4", "ipv6")
    )
    return f"router id {router_id};\nprotocol device {{ }}\n{kernels}{sessions}"


class Bird:
    """BIRD in a network namespace."""

    def __init__(self, folder: Path, namespace: str, text: str) -> None:
        self._namespace = namespace
        self._control = folder / "bird.ctl"
        file = folder / "bird.conf"
        file.write_text(text)
        self._kernel = NetNS(namespace)  # held open: to make one takes long
        with (folder / "bird.log").open("ab") as log:
            self._child = subprocess.Popen(
                self._inside("bird", "-f", "-c", str(file), "-s", str(self._control)),
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        self._child.kill()
        self._child.wait(PATIENCE_S)
        self._kernel.close()

    def ask(self, *words: str) -> str:
        """The control program's answer."""
        return subprocess.run(
            self._inside("birdc", "-s", str(self._control), *words),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        ).stdout

    def gateways(self, *addresses: str) -> list[set[str]]:
        """The gateways that the namespace's kernel has for each host address."""
        found: dict[str, set[str]] = {address: set() for address in addresses}
        for family in {10 if ":" in address else 2 for address in addresses}:
            for route in self._kernel.get_routes(family=family, table=MAIN_TABLE):
                if route.get_attr("RTA_DST") in found:
                    found[route.get_attr("RTA_DST")] |= set(_gateways(route))
        return list(found.values())

    def _inside(self, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self._namespace}", "--", *argv]


def _gateways(route) -> list[str]:
    """Of a route by one way or by several."""
    several = route.get_attr("RTA_MULTIPATH") or [route]
    return [found for way in several if (found := way.get_attr("RTA_GATEWAY")) is not None]
