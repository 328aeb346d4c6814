"""Demo steps that break things: a real, a site, the store, an agent; and an operator's drain."""

from __future__ import annotations

import signal
import time

from gslb.fleet.views import RealList, Status
from ops.lab.demo import Shown, Step, demand
from ops.lab.demo_dns import WEB_ADDRESSES, answered, curl_resolve, site_addresses
from ops.lab.demo_packets import Flows, forwarded, vip_named
from ops.lab.files import ANSWER_S, DETECT_S, LEASE_S
from ops.lab.lab import Lab, wait
from ops.lab.processes import alive
from ops.lab.topology import DOMAIN, EDGES, WEBS

FLOWS = 24
SLACK_S = 1.0  # the lab shares two cores among some fifty processes
HEARD_S = 10.0  # a bound on a planned change, which waits for the site's other edge to hear of it
START_S = 60.0  # a bound on what nothing is stated of: a daemon starts, the store is back


def _errors(answers: dict[str, str]) -> list[str]:
    return [text for text in answers.values() if text.startswith("error")]


def _wait_state(lab: Lab, site: str, real: str, state: str, timeout_s: float) -> float:
    """Wait until every edge of the site has the real in that state, and its rings to match."""
    edges = [edge.name for edge in EDGES if edge.site == site]

    def agreed() -> bool:
        return all(_states(lab, edge, real) == {(state, state == "UP")} for edge in edges)

    def why() -> str:
        return str({edge: _states(lab, edge, real) for edge in edges})

    return wait(agreed, timeout_s, why)


def _states(lab: Lab, edge: str, real: str) -> set[tuple[str, bool]]:
    """The real's state for each VIP of an edge, with whether it holds slots of the ring."""
    rows = lab.ask(edge, "/reals", RealList).reals
    return {(row.state, row.slots > 0) for row in rows if row.name == real}


def _real_killed(lab: Lab) -> Shown:
    victim = "fra-web2"
    vip = vip_named("web-fra-1")
    with Flows(lab, vip, FLOWS) as client:
        before = client.say("ask")
        demand(not _errors(before), f"flows broke before anything happened: {before}")
        demand(victim in before.values(), f"no flow on {victim}")
        lab.kill(f"{victim}-nginx")
        took_s = _wait_state(lab, "fra", victim, "DOWN", DETECT_S + SLACK_S)
        fresh = client.say("fresh 60")
        after = client.say("ask")
    demand(not _errors(fresh), f"new connections failed after detection: {_errors(fresh)}")
    demand(victim not in fresh.values(), f"{victim} still got new connections")
    neighbours = {i: real for i, real in before.items() if real != victim}
    moved = {i: (real, after[i]) for i, real in neighbours.items() if after[i] != real}
    demand(not moved, f"flows of neighbours moved or broke: {moved}")
    return Shown(
        f"kill -9 nginx of {victim}, while {FLOWS} connections are held",
        f"left the ring of both edges after {took_s:.1f} s (stated: {DETECT_S:.1f} s)\n"
        f"60 of 60 new connections served; {len(neighbours)} of {len(neighbours)} flows of its "
        "neighbours kept their real",
    )


def _real_returns(lab: Lab) -> Shown:
    victim = "fra-web2"
    lab.start(f"{victim}-nginx")
    took_s = _wait_state(lab, "fra", victim, "UP", 10.0)
    with Flows(lab, vip_named("web-fra-1"), 0) as client:
        fresh = client.say("fresh 40")
    demand(not _errors(fresh) and victim in fresh.values(), f"answered by {set(fresh.values())}")
    return Shown(f"start nginx of {victim} again", f"UP after {took_s:.1f} s, and serving again")


def _site_killed(lab: Lab) -> Shown:
    webs = [web.name for web in WEBS if web.site == "sin"]
    for web in webs:
        lab.kill(f"{web}-nginx")
    took_s = wait(
        lambda: not answered(lab, 12) & site_addresses("sin"),
        ANSWER_S + SLACK_S,
        lambda: f"sin is still answered: {sorted(answered(lab) & site_addresses('sin'))}",
    )
    left = answered(lab)
    demand(left == site_addresses("fra"), f"answers hold {sorted(left)}")
    return Shown(
        f"kill -9 nginx of {', '.join(webs)}",
        f"the VIPs of sin left the answers after {took_s:.1f} s (stated: {ANSWER_S:.1f} s); "
        f"40 queries brought only {sorted(left)}",
    )


def _site_returns(lab: Lab) -> Shown:
    for web in WEBS:
        if web.site == "sin":
            lab.start(f"{web.name}-nginx")
    took_s = wait(
        lambda: answered(lab) == WEB_ADDRESSES, START_S, lambda: str(sorted(answered(lab)))
    )
    well_s = took_s + lab.wait_well(START_S)
    came = f"all 6 VIPs are answered again after {took_s:.1f} s, all reals UP after {well_s:.1f} s"
    return Shown("start them again", came)


def _store_stopped(lab: Lab) -> Shown:
    how = lab.stop_store()
    try:
        lost_s = wait(
            lambda: lab.ask("dns", "/status", Status).store != "ok", 10.0, lambda: "dns saw no loss"
        )
        time.sleep(LEASE_S + SLACK_S)  # every lease would have ended by now
        covered = answered(lab)
        reply = curl_resolve(lab, f"name=www.{DOMAIN}")
        with Flows(lab, vip_named("web-sin-1"), 0) as client:
            fresh = client.say("fresh 10")
    finally:
        lab.start_store()
    demand(covered == WEB_ADDRESSES, f"answers shrank to {sorted(covered)}")
    demand(any(address in str(reply) for address in WEB_ADDRESSES), f"HTTPS said {reply}")
    demand(not _errors(fresh), f"packets stopped: {fresh}")
    back_s = lab.wait_well(START_S)
    return Shown(
        how,
        f"dns noticed after {lost_s:.1f} s; {LEASE_S + SLACK_S:.0f} s later, beyond every lease,\n"
        "DNS and HTTPS still answer with all 6 VIPs, and packets flow\n"
        f"well again {back_s:.1f} s after its return",
    )


def _agent_killed(lab: Lab) -> Shown:
    edge = "fra-edge1"
    with Flows(lab, vip_named("web-fra-1"), FLOWS) as client:
        before = client.say("ask")
        rows_before = _rings(lab, edge)
        packets_before = forwarded(lab, edge)
        status_before = lab.ask(edge, "/status", Status)
        lab.kill(edge)
        orphaned, fresh = client.say("ask"), client.say("fresh 40")
        demand(orphaned == before, f"flows moved without the agent: {orphaned}")
        demand(not _errors(fresh), f"new connections failed without the agent: {_errors(fresh)}")
        lab.start(edge)
        took_s = wait(lambda: _answers(lab, edge), START_S, lambda: f"{edge} does not answer")
        again, renewed = client.say("ask"), client.say("fresh 20")
    demand(again == before, f"flows moved at the restart: {again}")
    demand(not _errors(renewed), f"new connections failed after the restart: {_errors(renewed)}")
    demand(_rings(lab, edge) == rows_before, "the ring changed over the restart")
    packets = forwarded(lab, edge)
    demand(packets > packets_before, f"counters fell: {packets_before} -> {packets}")
    status = lab.ask(edge, "/status", Status)
    demand(status.generation >= status_before.generation, "the generation fell")
    return Shown(
        f"kill -9 the agent of {edge}, while {FLOWS} connections are held; start it again",
        f"without it: {FLOWS} of {FLOWS} flows kept, 40 of 40 new connections served\n"
        f"started again in {took_s:.1f} s: flows and ring as before, counters went on "
        f"({packets_before} -> {packets} packets)",
    )


def _answers(lab: Lab, daemon: str) -> bool:
    try:
        return lab.ask(daemon, "/status", Status).well
    except OSError:
        return False


def _rings(lab: Lab, edge: str) -> dict[tuple[str, str], int]:
    return {(row.vip, row.name): row.slots for row in lab.ask(edge, "/reals", RealList).reals}


def _drain(lab: Lab) -> Shown:
    real = "fra-web1"
    argv = ("waypost", "real", "drain", real, "--reason", "kernel upgrade")
    with Flows(lab, vip_named("web-fra-1"), FLOWS) as client:
        before = client.say("ask")
        done = lab.run("fra-edge1", *argv)
        demand(done.returncode == 0, f"{done.stdout}{done.stderr}")
        _wait_state(lab, "fra", real, "DRAINING", HEARD_S)
        fresh, kept = client.say("fresh 40"), client.say("ask")
        undone = lab.run("fra-edge1", "waypost", "real", "undrain", real)
        demand(undone.returncode == 0, f"{undone.stdout}{undone.stderr}")
        _wait_state(lab, "fra", real, "UP", HEARD_S)
        again = client.say("ask")
    demand(real not in fresh.values() and not _errors(fresh), f"new ones: {set(fresh.values())}")
    demand(kept == before, "a flow left its real during the drain")
    demand(again == before, "a flow left its real when the drain ended")
    old = sum(1 for name in before.values() if name == real)
    return Shown(
        " ".join(argv) + f"; waypost real undrain {real}",
        f"its {old} old flows stayed, 40 new connections went elsewhere, and back again",
    )


def _clean_stop(lab: Lab) -> Shown:
    lab.kill("dns", signal.SIGTERM)
    record = lab.ledger.processes["dns"]
    took_s = wait(lambda: not alive(record), 10.0, lambda: "dns did not stop")
    lab.start("dns")
    back_s = lab.wait_well(START_S)
    covered = answered(lab)
    demand(covered == WEB_ADDRESSES, f"after the restart: {sorted(covered)}")
    return Shown(
        f"kill -TERM {record.name}; start it again",
        f"drained and ended in {took_s:.1f} s; answers with all 6 VIPs again after {back_s:.1f} s",
    )


STEPS = (
    Step("a real is killed: it leaves the ring, its neighbours' flows stay", _real_killed),
    Step("the real returns", _real_returns),
    Step("an operator drains a real: old flows stay, new ones go elsewhere", _drain),
    Step("all reals of a site are killed: its VIPs leave the answers in time", _site_killed),
    Step("the site returns", _site_returns),
    Step("the store is stopped: answers and packets go on", _store_stopped),
    Step(
        "an edge's agent is killed with -9: packets go on; a restart loses nothing", _agent_killed
    ),
    Step("the DNS daemon is stopped in order and started again", _clean_stop),
)
