"""The daemon on a real server, in a namespace of its own: what it makes, keeps and takes away."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from socket import AF_INET6

import pytest
from pyroute2 import NetNS
from site_world import SiteWorld

from edge_lb.vip_traffic import traffic_pins
from gslb.fleet.views import Drops, Status, VipList, VipRow
from gslb.service.lifecycle import ExitCode

pytestmark = pytest.mark.netns

FLEET = """
[fleet]
name = "small"
[site.fra]
location = { country = "DE", lat = 50.0, lon = 8.0 }
edges = ["edge1"]
[real.web1]
site = "fra"
address = "192.0.2.2"
encap = "ENCAP"
[vip.www]
site = "fra"
address = "198.51.100.1"
port = 80
reals = ["web1"]
[vip.tls]
site = "fra"
address = "198.51.100.1"
port = 443
reals = ["web1"]
"""
SECOND_VIP = """
[vip.six]
site = "fra"
address = "2001:db8::1"
port = 80
reals = ["web1"]
"""
VIP, VIP_V6 = "198.51.100.1", "2001:db8::1"
KNOCK = """
import contextlib, socket, sys
with contextlib.suppress(ConnectionRefusedError):
    socket.create_connection((sys.argv[1], 80), 5)
"""


class RealHost:
    """One real's files and daemon."""

    def __init__(
        self, world: SiteWorld, *, encap: str = "gue", more: str = "", store: str = ""
    ) -> None:
        self.world = world
        self.fleet = FLEET.replace("ENCAP", encap) + more
        self.admin = world.folder / "real.sock"
        world.write("fleet.toml", self.fleet)
        self.config = world.write(
            "real.toml",
            f'[host]\nname = "web1"\nfleet = "fleet.toml"\nadmin_socket = "{self.admin}"\n'
            f'state_dir = "{world.folder / "state"}"\n'
            f'[real]\nname = "web1"\ninterface = "eth0"\npin_dir = "{world.pin_dir}"\n{store}',
        )
        self.daemon = self.start()

    def start(self):
        daemon = self.world.start("-m", "edge_lb", "real", "--config", str(self.config))
        self.world.wait(lambda: self.status().well or daemon.poll() is not None)
        assert daemon.poll() is None, (self.world.folder / "log").read_text()
        return daemon

    def status(self) -> Status:
        return self.world.ask(self.admin, "/status", Status)

    def run(self, *options: str):
        return self.world.run("-m", "edge_lb", "real", "--config", str(self.config), *options)


def test_vips_are_bound_silently_and_the_tunnel_ends_here(world: SiteWorld):
    real = RealHost(world)

    assert VIP in world.addresses("lo")
    assert [world.sysctl(f"{name}/arp_ignore") for name in ("all", "eth0")] == ["1", "1"]
    assert [world.sysctl(f"{name}/arp_announce") for name in ("all", "eth0")] == ["2", "2"]
    assert world.xdp_attached()
    assert real.status().datapath == "unwraps GUE and IPIP on eth0, xdp native"
    drops = world.ask(real.admin, "/drops", Drops)
    assert {"PASSED_UNWRAPPED", "DROPPED_NOT_BOUND"} <= {row.name for row in drops.counters}


BODY_BYTES = 1 << 20
SEGMENTS_MIN = BODY_BYTES // 1460


def vip_row(world: SiteWorld, real: RealHost, address: str) -> VipRow:
    rows = world.ask(real.admin, "/vips", VipList).vips
    return next(row for row in rows if row.address == address)


def client_with_routes(world: SiteWorld) -> None:
    """The far end sends what is for the VIPs to the real, as an edge does by L2."""
    with NetNS(world.far) as far, NetNS(world.name) as here:
        for ns, interface, address in ((far, "far0", "fd00::1"), (here, "eth0", "fd00::2")):
            index = ns.link_lookup(ifname=interface)[0]
            ns.addr("add", index=index, address=address, prefixlen=64, flags=0x02)  # NODAD
        far.route("add", dst=f"{VIP}/32", gateway="192.0.2.2")
        far.route("add", dst=f"{VIP_V6}/128", gateway="fd00::2", family=AF_INET6)


@pytest.mark.parametrize("encap", ["gue", "l2"])
@pytest.mark.parametrize("vip", [VIP, VIP_V6], ids=["v4", "v6"])
def test_a_request_moves_the_counters_of_both_directions(world: SiteWorld, vip: str, encap: str):
    real = RealHost(world, encap=encap, more=SECOND_VIP)
    client_with_routes(world)
    (world.folder / "body").write_bytes(bytes(BODY_BYTES))
    url = f"http://[{vip}]:80/body" if ":" in vip else f"http://{vip}:80/body"
    folder = ("--directory", str(world.folder))
    world.start("-m", "http.server", "80", "--bind", vip, *folder)
    curl = ["nsenter", f"--net=/run/netns/{world.far}", "--", "curl", "-s", "-o", "/dev/null"]

    def fetched() -> bool:
        return subprocess.run([*curl, "--noproxy", "*", url], check=False).returncode == 0

    world.wait(fetched)
    before = vip_row(world, real, vip)
    assert fetched()
    world.wait(lambda: vip_row(world, real, vip).sent_bytes >= before.sent_bytes + BODY_BYTES)

    after = vip_row(world, real, vip)
    sent_bytes = after.sent_bytes - before.sent_bytes
    sent_packets = after.sent_packets - before.sent_packets
    assert BODY_BYTES < sent_bytes < BODY_BYTES * 1.1
    assert SEGMENTS_MIN <= sent_packets < 2 * SEGMENTS_MIN
    assert 4 <= after.received_packets - before.received_packets < 2 * SEGMENTS_MIN
    assert 4 * 54 <= after.received_bytes - before.received_bytes < BODY_BYTES
    other = vip_row(world, real, VIP if vip == VIP_V6 else VIP_V6)
    assert (other.received_packets, other.sent_packets) == (0, 0)
    metrics = world.text(real.admin, "/metrics")
    told = re.search(rf'real_vip_sent_bytes_total{{vip="{re.escape(vip)}"}} (\S+)', metrics)
    assert told is not None
    assert float(told[1]) >= after.sent_bytes


def test_undo_takes_the_counting_off_and_a_restart_keeps_the_counts(world: SiteWorld):
    real = RealHost(world, encap="l2")
    client_with_routes(world)
    assert traffic_pins(world.pin_dir).exists()
    world.run("-c", KNOCK, VIP, namespace=world.far)  # answered by a reset: nobody listens
    world.wait(lambda: vip_row(world, real, VIP).sent_packets == 1)

    world.end(real.daemon, signal.SIGKILL)
    world.run("-c", KNOCK, VIP, namespace=world.far)
    real.daemon = real.start()

    row = vip_row(world, real, VIP)
    assert (row.received_packets, row.sent_packets) == (2, 2)
    world.end(real.daemon, signal.SIGTERM)
    assert traffic_pins(world.pin_dir).exists()
    assert real.run("--undo").returncode == ExitCode.DONE
    assert not traffic_pins(world.pin_dir).exists()
    with NetNS(world.name) as here:
        kinds = {qdisc.get_attr("TCA_KIND") for qdisc in here.get_qdiscs()}
    assert "clsact" not in kinds


def test_a_real_that_cannot_count_serves_and_says_so(world: SiteWorld):
    with NetNS(world.name) as here:
        here.tc("add", "ingress", here.link_lookup(ifname="eth0")[0])

    real = RealHost(world)

    assert real.status().well
    assert "VIPs are not counted: eth0 has an `ingress` qdisc" in real.status().datapath
    assert vip_row(world, real, VIP).sent_packets == -1
    assert world.xdp_attached()


def test_stop_keeps_serving_and_undo_leaves_nothing(world: SiteWorld):
    arp_before = world.sysctl("eth0/arp_ignore")
    real = RealHost(world)

    assert world.end(real.daemon, signal.SIGTERM) == ExitCode.DONE

    assert VIP in world.addresses("lo")
    assert world.xdp_attached()

    undone = real.run("--undo")

    assert undone.returncode == ExitCode.DONE, undone.stderr
    assert "1 VIP addresses removed, program and pins removed" in undone.stdout
    assert VIP not in world.addresses("lo")
    assert not world.xdp_attached()
    assert not world.pin_dir.exists()
    assert world.sysctl("eth0/arp_ignore") == arp_before


def test_restart_takes_the_pins_over_and_keeps_the_counters(world: SiteWorld):
    real = RealHost(world)
    world.end(real.daemon, signal.SIGKILL)

    real.daemon = real.start()

    assert VIP in world.addresses("lo")
    assert world.xdp_attached()


def test_address_that_was_there_before_is_not_ours_to_remove(world: SiteWorld):
    with NetNS(world.name) as here:
        here.addr("add", index=here.link_lookup(ifname="lo")[0], address=VIP, prefixlen=32)
    real = RealHost(world)
    world.end(real.daemon, signal.SIGTERM)

    assert real.run("--undo").returncode == ExitCode.DONE

    assert VIP in world.addresses("lo")


def test_reload_binds_what_is_new_and_unbinds_what_left(world: SiteWorld):
    real = RealHost(world)

    world.write("fleet.toml", real.fleet + SECOND_VIP)
    real.daemon.send_signal(signal.SIGHUP)
    world.wait(lambda: "2001:db8::1" in world.addresses("lo"))
    assert VIP in world.addresses("lo")

    world.write("fleet.toml", real.fleet)
    status, _ = world.tell(real.admin, "/reload", {})

    assert status == 200
    assert "2001:db8::1" not in world.addresses("lo")


def test_refused_reload_changes_nothing(world: SiteWorld):
    real = RealHost(world)
    world.write("fleet.toml", real.fleet.replace('reals = ["web1"]', 'reals = ["web2"]'))

    status, body = world.tell(real.admin, "/reload", {})

    assert status == 422
    assert b"did you mean `web1`?" in body
    assert VIP in world.addresses("lo")
    assert real.status().well


def test_real_on_the_edges_subnet_gets_no_program(world: SiteWorld):
    real = RealHost(world, encap="l2")

    assert VIP in world.addresses("lo")
    assert not world.xdp_attached()
    assert real.status().datapath == "l2: nothing to unwrap"


def test_second_start_is_refused_and_so_is_undo_while_it_runs(world: SiteWorld):
    real = RealHost(world)

    second, undo = real.run(), real.run("--undo")

    assert (second.returncode, undo.returncode) == (ExitCode.RUNNING, ExitCode.RUNNING)
    assert "already runs as process" in second.stderr
    assert VIP in world.addresses("lo")


def test_missing_interface_is_refused_by_name(world: SiteWorld):
    world.write("fleet.toml", FLEET.replace("ENCAP", "gue"))
    config = world.write(
        "real.toml",
        '[host]\nname = "web1"\nfleet = "fleet.toml"\nadmin_socket = "x"\n'
        f'state_dir = "{world.folder}"\n[real]\nname = "web1"\ninterface = "eth9"\npin_dir = "x"\n',
    )

    refused = world.run("-m", "edge_lb", "real", "--config", str(config))

    assert refused.returncode == ExitCode.INTERFACE
    assert "no interface `eth9`" in refused.stderr
    assert "eth0" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_check_names_the_nearest_real(world: SiteWorld, tmp_path: Path):
    world.write("fleet.toml", FLEET.replace("ENCAP", "gue"))
    config = world.write(
        "real.toml",
        '[host]\nname = "web1"\nfleet = "fleet.toml"\nadmin_socket = "x"\n'
        f'state_dir = "{tmp_path}"\n[real]\nname = "web"\ninterface = "eth0"\npin_dir = "x"\n',
    )

    refused = world.run("-m", "edge_lb", "real", "--config", str(config), "--check")

    assert refused.returncode == ExitCode.CONFIG
    assert "did you mean `web1`?" in refused.stderr
