"""Checks through the true tunnel: an edge, a router, and reals with daemons of their own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest
import trustme
from pyroute2 import NetNS, netns
from site_world import SiteWorld

from bpf import program
from bpf.program import BPFFS
from edge_lb import prober
from edge_lb.vip_traffic import traffic_pins
from gslb.fleet.views import RealList, Status
from gslb.service.lifecycle import ExitCode

pytestmark = pytest.mark.netns

VIP, OTHER_VIP = "198.51.100.1", "198.51.100.2"
REALS = ("web1", "web2")
ASK = """
import sys, urllib.request
print(urllib.request.urlopen(f"http://{sys.argv[1]}:8080/", timeout=5).status)
"""


def fleet_text(*, kind: str = "http", vip: str = VIP, path: str = "/") -> str:
    """Two reals behind a router, and one VIP of both."""
    reals = "".join(f'[real.{name}]\nsite = "fra"\naddress = "{address(name)}"\n' for name in REALS)
    return (
        '[fleet]\nname = "small"\n'
        '[site.fra]\nlocation = { country = "DE", lat = 50.0, lon = 8.0 }\nedges = ["edge1"]\n'
        f'{reals}[vip.www]\nsite = "fra"\naddress = "{vip}"\nport = 8080\n'
        'reals = ["web1", "web2"]\n'
        f'check = {{ kind = "{kind}", path = "{path}", interval_s = 0.5, timeout_s = 0.5, '
        "rise = 1, fall = 2 }\n"
    )


def address(real: str) -> str:
    """The real's own address; its router has .1."""
    return f"10.9.{REALS.index(real)}.2"


class ProbeSite:
    """The edge in the world's namespace, the far one as its router, and two reals behind that."""

    def __init__(self, world: SiteWorld) -> None:
        self.world = world
        self.admin = world.folder / "edge.sock"
        self.namespaces = {name: f"{world.name}-{name}" for name in REALS}
        self.pin_dirs = {name: BPFFS / f"waypost_{space}" for name, space in self.spaces()}
        for name, space in self.spaces():
            netns.create(space)
            self._wire(name, space)
        self._route()
        world.write("fleet.toml", fleet_text())
        self.config = world.write(
            "edge.toml",
            f'[host]\nname = "edge1"\nfleet = "fleet.toml"\nadmin_socket = "{self.admin}"\n'
            f'state_dir = "{world.folder / "state"}"\n'
            f'[store]\nkind = "sqlite"\npath = "{world.folder / "store.sqlite"}"\n'
            f'[edge]\nsite = "fra"\ninterface = "eth0"\npin_dir = "{world.pin_dir}"\n'
            'tunnel_source = "192.0.2.2"\nbeat_s = 0.3\nlease_s = 2.0\n',
        )

    def close(self) -> None:
        self.world.end_all()
        for pins in self.pin_dirs.values():
            for folder in (pins, traffic_pins(pins)):
                if folder.exists():
                    shutil.rmtree(folder)
        for _, space in self.spaces():
            netns.remove(space)

    def spaces(self) -> Iterator[tuple[str, str]]:
        yield from self.namespaces.items()

    def start_edge(self) -> subprocess.Popen[bytes]:
        daemon = self.world.start("-m", "edge_lb", "agent", "--config", str(self.config))
        self.world.wait(lambda: bool(self.rows()) or daemon.poll() is not None)
        assert daemon.poll() is None, (self.world.folder / "log").read_text()
        return daemon

    def start_real(self, name: str, fleet: str = "fleet.toml") -> subprocess.Popen[bytes]:
        """The real's daemon: VIP on lo, real.bpf.c on eth0; `fleet` is what it believes."""
        admin = self.world.folder / f"{name}.sock"
        config = self.world.write(
            f"{name}.toml",
            f'[host]\nname = "{name}"\nfleet = "{fleet}"\nadmin_socket = "{admin}"\n'
            f'state_dir = "{self.world.folder / name}"\n'
            f'[real]\nname = "{name}"\ninterface = "eth0"\npin_dir = "{self.pin_dirs[name]}"\n',
        )
        command = ("-m", "edge_lb", "real", "--config", str(config))
        daemon = self.world.start(*command, namespace=self.namespaces[name])
        self.world.wait(lambda: self.world.ask(admin, "/status", Status).well)
        return daemon

    def serve(self, name: str, certificate: str = "") -> subprocess.Popen[bytes]:
        where = self.namespaces[name]
        return self.world.serve("0.0.0.0", namespace=where, certificate=certificate)

    def rows(self) -> dict[str, tuple[str, str]]:
        rows = self.world.ask(self.admin, "/reals", RealList).reals
        return {row.name: (row.state, row.reason) for row in rows}

    def becomes(self, name: str, state: str, reason: str) -> None:
        self.world.wait(lambda: self.rows()[name] == (state, reason))

    def answers_directly(self, name: str) -> bool:
        """Whether the real's own address serves, asked from the edge."""
        return self.world.run("-c", ASK, address(name)).stdout.strip() == "200"

    def _wire(self, name: str, space: str) -> None:
        with NetNS(self.world.far) as far:
            far.link("add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": space})
            self.world.up(far, name, address(name).removesuffix("2") + "1")
        with NetNS(space) as real:
            self.world.up(real, "lo")
            self.world.up(real, "eth0", address(name))
            real.route("add", dst="0.0.0.0/0", gateway=address(name).removesuffix("2") + "1")

    def _route(self) -> None:
        conf = "/proc/sys/net/ipv4/conf"
        off = "".join(
            f"open('{conf}/{name}/rp_filter','w').write('0');" for name in (*REALS, "all")
        )
        script = f"open('/proc/sys/net/ipv4/ip_forward','w').write('1');{off}"
        done = self.world.run("-c", script, namespace=self.world.far)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def site(world: SiteWorld) -> Iterator[ProbeSite]:
    made = ProbeSite(world)
    yield made
    made.close()


TIMEOUT = "connect timeout 0.5 s through the tunnel"


def test_a_check_passes_where_tunnel_vip_and_listener_are_well(site: ProbeSite):
    for name in REALS:
        site.start_real(name)
        site.serve(name)
    site.start_edge()

    for name in REALS:
        site.becomes(name, "UP", "status 200")


def test_https_and_requests_of_many_packets_go_through(site: ProbeSite):
    certificate = site.world.folder / "web.pem"
    trustme.CA().issue_cert("www.example.com").private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    site.world.write("fleet.toml", fleet_text(kind="https", path="/" + "long" * 2000))
    site.start_real("web1")
    site.serve("web1", str(certificate))
    site.start_real("web2")
    site.serve("web2")
    site.start_edge()

    site.becomes("web1", "UP", "status 200")
    site.world.wait(lambda: site.rows()["web2"][1].startswith("TLS handshake failed"))
    site.world.wait(lambda: site.rows()["web2"][0] == "DOWN")


def test_two_reals_of_one_vip_are_told_apart_by_their_listeners(site: ProbeSite):
    servers = {}
    for name in REALS:
        site.start_real(name)
        servers[name] = site.serve(name)
    site.start_edge()
    site.becomes("web2", "UP", "status 200")

    site.world.end(servers["web2"], signal.SIGKILL)

    site.becomes("web2", "DOWN", "connection refused")
    site.becomes("web1", "UP", "status 200")


def test_a_real_that_has_not_bound_the_vip_fails_though_its_own_address_answers(site: ProbeSite):
    site.world.write("other.toml", fleet_text(vip=OTHER_VIP))
    site.start_real("web1")
    site.start_real("web2", fleet="other.toml")
    for name in REALS:
        site.serve(name)
    site.start_edge()

    site.becomes("web1", "UP", "status 200")
    site.becomes("web2", "DOWN", TIMEOUT)
    assert site.answers_directly("web2")


def test_a_real_that_takes_nothing_out_of_the_tunnel_fails_and_comes_back(site: ProbeSite):
    site.world.write("fleet.toml", fleet_text(kind="tcp"))
    daemons = {}
    for name in REALS:
        daemons[name] = site.start_real(name)
        site.serve(name)
    site.start_edge()
    site.becomes("web2", "UP", "connected")

    site.world.end(daemons["web2"], signal.SIGTERM)
    program.unload(site.pin_dirs["web2"])

    site.becomes("web2", "DOWN", TIMEOUT)
    assert site.answers_directly("web2")
    site.becomes("web1", "UP", "connected")

    site.start_real("web2")
    site.becomes("web2", "UP", "connected")


def test_probes_end_with_the_agent_and_undo_leaves_no_rule(site: ProbeSite):
    daemon = site.start_edge()
    with NetNS(site.world.name) as here:
        assert here.link_lookup(ifname=prober.INTERFACE)

        site.world.end(daemon, signal.SIGKILL)

        assert not here.link_lookup(ifname=prober.INTERFACE)
        assert rules(here) == 1

        daemon = site.start_edge()
        assert rules(here) == 1
        site.world.end(daemon, signal.SIGTERM)
        undone = site.world.run("-m", "edge_lb", "agent", "--config", str(site.config), "--undo")

        assert undone.returncode == ExitCode.DONE, undone.stderr
        assert rules(here) == 0


def rules(here: NetNS) -> int:
    return sum(rule.get_attr("FRA_TABLE") == prober.TABLE for rule in here.get_rules(family=2))
