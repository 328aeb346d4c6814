"""Kernel settings that a daemon needs: set, with the values found before kept, so they can go back.

Owns /proc/sys/net in the daemon's network namespace, and the file of values found. Used by the
edge's and the real's agents, which say what they want.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from gslb.service.lifecycle import ExitCode, Refused

NET = Path("/proc/sys/net")
FILE = "sysctls.json"


def edge_wanted(interface: str, *, ipv6: bool) -> dict[str, str]:
    """What an edge needs of its interface; `ipv6` if a real has an IPv6 address.

    bpf_fib_lookup forwards only where the kernel would, in each family by itself; clients' paths
    need not be symmetric. An interface that forwards heeds router advertisements only by accept_ra
    2: it goes before, or the default route that came by them would be lost.
    """
    conf = f"conf/{interface}"
    wanted = {f"ipv4/{conf}/forwarding": "1", f"ipv4/{conf}/rp_filter": "2"}
    if not ipv6 or not (NET / f"ipv6/{conf}").is_dir():
        return wanted
    if (NET / f"ipv6/{conf}/accept_ra").read_text().strip() == "1":
        wanted[f"ipv6/{conf}/accept_ra"] = "2"
    return wanted | {f"ipv6/{conf}/forwarding": "1"}


def real_wanted(interface: str) -> dict[str, str]:
    """What a real needs, lest on the edges' subnet it draws the clients' packets to itself.

    arp_ignore 1 answers only for addresses of the interface asked on, arp_announce 2 never tells a
    VIP as the sender; loose rp_filter lets in what was unwrapped, wherever its client lives.
    arp_notify and ndisc_notify tell of the interface's own addresses when its MAC address changes
    or it comes up, so that edges follow at once.
    """
    conf = "ipv4/conf"
    wanted = {f"{conf}/{name}/arp_ignore": "1" for name in ("all", interface)}
    wanted |= {f"{conf}/{name}/arp_announce": "2" for name in ("all", interface)}
    wanted |= {f"{conf}/{interface}/rp_filter": "2", f"{conf}/{interface}/arp_notify": "1"}
    if (NET / f"ipv6/conf/{interface}").is_dir():
        wanted[f"ipv6/conf/{interface}/ndisc_notify"] = "1"
    return wanted


class Sysctls:
    """Settings of the network, keyed by their path below /proc/sys/net."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE

    def set(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Set what differs; returns what was changed, as `old -> new`. Refused where not allowed.

        The first value ever found is kept until `restore`, over any number of starts.
        """
        found = self._found()
        changed: dict[str, str] = {}
        for key, value in wanted.items():
            now = (NET / key).read_text().strip()
            found.setdefault(key, now)
            if now != value:
                self._keep(found)
                _write(NET / key, value)
                changed[key] = f"{now} -> {value}"
        return changed

    def restore(self) -> dict[str, str]:
        """Put back every value found before us; an interface that is gone is passed over."""
        found = self._found()
        for key, value in found.items():
            with suppress(FileNotFoundError):
                _write(NET / key, value)
        self._path.unlink(missing_ok=True)
        return found

    def _found(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def _keep(self, found: Mapping[str, str]) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(dict(found)))
        draft.replace(self._path)


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except PermissionError as error:
        text = f"{path}: {error.strerror}; run as root, with /proc/sys writable"
        raise Refused(ExitCode.NOT_ROOT, text) from None
