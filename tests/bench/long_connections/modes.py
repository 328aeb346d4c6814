"""The ways of keeping a connection at its real that the bench compares, each a VIP of its own.

All of them live through the same events at the same moments, in one world. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from gslb.fleet.model import FlowMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One way; `number` makes its VIP's address, `resilient` is how the router chooses an edge."""

    name: str
    words: str
    number: int
    owner_chain: int
    flow_memory: FlowMemory
    resilient: bool = False

    @property
    def address(self) -> str:
        """Of its VIP."""
        return f"192.0.2.{self.number}"


MODES = {
    mode.name: mode
    for mode in (
        Mode(
            name="chains",
            words="owner chains of 3, flow memory",
            number=1,
            owner_chain=3,
            flow_memory=FlowMemory.ALL,
        ),
        Mode(
            name="moved",
            words="owner chains of 3, flow memory of moved slots",
            number=2,
            owner_chain=3,
            flow_memory=FlowMemory.MOVED,
        ),
        Mode(
            name="chains-alone",
            words="owner chains of 3, no flow memory",
            number=3,
            owner_chain=3,
            flow_memory=FlowMemory.NONE,
        ),
        Mode(
            name="one-owner",
            words="one previous owner, no flow memory",
            number=4,
            owner_chain=1,
            flow_memory=FlowMemory.NONE,
        ),
        Mode(
            name="memory",
            words="flow memory alone",
            number=5,
            owner_chain=0,
            flow_memory=FlowMemory.ALL,
        ),
        Mode(
            name="resilient",
            words="resilient ECMP, ring alone",
            number=6,
            owner_chain=0,
            flow_memory=FlowMemory.NONE,
            resilient=True,
        ),
        Mode(
            name="ring",
            words="ring alone",
            number=7,
            owner_chain=0,
            flow_memory=FlowMemory.NONE,
        ),
    )
}
OURS = ("chains", "moved", "chains-alone")
"""Those of which no connection may break without a right to."""
