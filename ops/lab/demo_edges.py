"""Demo steps in which an edge leaves and comes back: drained by an operator, its data path lost."""

from __future__ import annotations

import time

from gslb.fleet.announcing import Announcing
from ops.lab import paths, router
from ops.lab.demo import Shown, Step, demand
from ops.lab.demo_packets import Flows, forwarded, vip_named
from ops.lab.files import WITHDRAW_S
from ops.lab.lab import Lab, wait
from ops.lab.topology import EDGES

FLOWS = 24
SLACK_S = 3.0  # the lab shares two cores among some fifty processes
EDGE = "fra-edge1"
ADDRESSES = {edge.name: edge.address for edge in EDGES if edge.site == "fra"}


def _errors(answers: dict[str, str]) -> list[str]:
    return [text for text in answers.values() if text.startswith("error")]


def _ways() -> set[str]:
    """The edges that the router sends packets of a VIP of fra to."""
    return router.ways().get(vip_named("web-fra-1").address, set())


def _wait_ways(*edges: str, timeout_s: float) -> float:
    wanted = {ADDRESSES[edge] for edge in edges}
    return wait(lambda: _ways() == wanted, timeout_s, lambda: f"the router has {sorted(_ways())}")


def _drained(lab: Lab) -> Shown:
    argv = ("waypost", "edge", "drain", EDGE, "--wait", "--reason", "new kernel")
    with Flows(lab, vip_named("web-fra-1"), FLOWS) as client:
        before = client.say("ask")
        demand(not _errors(before), f"flows broke before anything happened: {before}")
        done = lab.run(EDGE, *argv, timeout_s=60.0)
        demand(done.returncode == 0, f"{done.stdout}{done.stderr}")
        _wait_ways("fra-edge2", timeout_s=SLACK_S)
        gone, packets = client.say("ask"), forwarded(lab, EDGE)
        fresh, again = client.say("fresh 40"), client.say("ask")
        demand(gone == before and again == before, "a flow left its real during the drain")
        demand(not _errors(fresh), f"new connections failed: {_errors(fresh)}")
        demand(forwarded(lab, EDGE) == packets, f"packets still come to {EDGE}")
        undone = lab.run(EDGE, "waypost", "edge", "undrain", EDGE, "--wait", timeout_s=60.0)
        demand(undone.returncode == 0, f"{undone.stdout}{undone.stderr}")
        back_s = _wait_ways(*ADDRESSES, timeout_s=SLACK_S)
        back = client.say("ask")
    demand(back == before, "a flow left its real when the drain ended")
    seen = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith(EDGE)]
    states = " -> ".join(dict.fromkeys(line.split()[0] for line in seen))
    return Shown(
        " ".join(argv),
        f"{states}: {seen[-1]}\n{FLOWS} of {FLOWS} long connections kept their real by way of "
        f"fra-edge2, 40 of 40 new ones served\nundrained: routed to again after {back_s:.1f} s",
    )


def _data_path_lost(lab: Lab) -> Shown:
    with Flows(lab, vip_named("web-fra-1"), FLOWS) as client:
        before = client.say("ask")
        lab.kill(EDGE)
        later = _record(lab).at_s + WITHDRAW_S
        wait(lambda: _record(lab).at_s > later, 10.0, lambda: "the announcer is silent")
        demand(_ways() == set(ADDRESSES.values()), "the death of an agent withdrew its routes")
        done = lab.run(EDGE, "waypost", "datapath", "unload", "--force", "--pin-dir", _pins())
        demand(done.returncode == 0, f"{done.stdout}{done.stderr}")
        began_s = time.monotonic()
        _wait_ways("fra-edge2", timeout_s=WITHDRAW_S + SLACK_S)
        took_s = time.monotonic() - began_s
        gone, fresh = client.say("ask"), client.say("fresh 40")
        lab.start(EDGE)
        back_s = _wait_ways(*ADDRESSES, timeout_s=60.0)
        lab.wait_well()
        back = client.say("ask")
    demand(gone == before, f"flows moved or broke: {gone}")
    demand(not _errors(fresh), f"new connections failed: {_errors(fresh)}")
    demand(back == before, f"flows moved when the edge came back: {back}")
    return Shown(
        f"kill -9 the agent of {EDGE}; waypost datapath unload",
        "without the agent: nothing withdrawn\n"
        f"without the program: withdrawn after {took_s:.1f} s (stated: {WITHDRAW_S:.1f} s); "
        f"{FLOWS} of {FLOWS} flows kept, 40 of 40 new ones served\n"
        f"the agent started again: routed to after {back_s:.1f} s",
    )


def _record(lab: Lab) -> Announcing:
    """What the announcer says of the edge, from its own file: the agent is not needed."""
    return lab.announcing(EDGE)


def _pins() -> str:
    return str(paths.PIN_DIR / EDGE)


STEPS = (
    Step("an operator drains an edge: its routes go, long connections stay", _drained),
    Step("an edge loses its data path: its routes are withdrawn in time", _data_path_lost),
)
