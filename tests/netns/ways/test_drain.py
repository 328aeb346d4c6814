"""A drain from the command to the last flow: a long connection, counted where it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from socket import SHUT_WR, socket

import pytest
from site_world import SiteWorld

from bpf.compile import compile_stale
from gslb.fleet.views import DrainRow, Drains, Status
from gslb.service.lifecycle import ExitCode
from ways.site import WaySite, WayVip

pytestmark = pytest.mark.netns

WWW = WayVip("www", "198.51.100.90", ("near4", "far4"), 'encap = "gue"')
COUNTED, SILENT = WWW.reals
WAYPOST = "from ops.cli.main import main; main()"
PATIENCE_S = 60


class DrainSite(WaySite):
    """A VIP of two reals: the daemon of one tells what it counts, the other's tells nothing."""

    def start_real(self, real: str) -> None:
        if real != COUNTED:
            super().start_real(real)
            return
        store = f'[store]\nkind = "sqlite"\npath = "{self.world.folder / "store.sqlite"}"\n'
        config = self.world.write(f"{real}.toml", self.real_text(real) + store)
        where = self.net.reals[real]
        self.world.start("-m", "edge_lb", "real", "--config", str(config), namespace=where)

    def waypost(self, *arguments: str) -> subprocess.Popen[str]:
        """`waypost ARGUMENTS`, asked of the edge."""
        return subprocess.Popen(
            [sys.executable, "-c", WAYPOST, "--socket", str(self.admin), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self, *arguments: str) -> tuple[int, str, str]:
        running = self.waypost(*arguments)
        out, err = running.communicate(timeout=PATIENCE_S)
        return running.returncode, out, err

    def drains(self) -> dict[str, DrainRow]:
        return {row.name: row for row in self.world.ask(self.admin, "/drains", Drains).drains}


@pytest.fixture(scope="module")
def drain_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrainSite]:
    compile_stale()
    world = SiteWorld(tmp_path_factory.mktemp("drain"), "drain")
    try:
        made = DrainSite(world, (WWW,))
        try:
            yield made
        finally:
            made.close()
    finally:
        world.close()


@pytest.fixture
def site(drain_site: DrainSite) -> Iterator[DrainSite]:
    """Nothing is drained before a test, nor after it."""
    yield drain_site
    for real in WWW.reals:
        drain_site.world.tell(drain_site.admin, "/real/undrain", {"name": real})
    drain_site.world.wait(drain_site.settled)


def connection_to(site: DrainSite, real: str, stack: ExitStack) -> socket:
    """A connection that the real has; others are closed."""
    for _ in range(60):
        made = site.connect(WWW, wait_s=PATIENCE_S)
        made.sendall(b"0\n")
        if made.recv(100).decode().strip() == real:
            return stack.enter_context(made)
        made.close()
    raise AssertionError(f"no connection went to {real}")


def is_alive(connection: socket) -> bool:
    connection.sendall(b"still there?\n")
    return connection.recv(100) == b"still there?\n"


def test_a_drain_shows_what_is_left_and_ends_when_the_last_flow_does(site: DrainSite):
    with ExitStack() as stack:
        old = connection_to(site, COUNTED, stack)
        running = stack.enter_context(site.waypost("real", "drain", COUNTED, "--wait"))
        stack.callback(running.kill)
        assert running.stdout is not None
        lines = [running.stdout.readline()]
        assert f"{COUNTED} up -> draining" in lines[0]
        while "flow left" not in lines[-1] and "flows left" not in lines[-1]:
            lines.append(running.stdout.readline())
            assert lines[-1], running.communicate()

        row = site.drains()[COUNTED]
        assert row.flows >= 1
        assert row.oldest_s > 0
        assert {site.name_of_server(WWW) for _ in range(20)} == {SILENT}
        assert is_alive(old)
        (shown,) = [row for row in site.rows() if row.name == COUNTED]
        assert shown.flows >= 1
        assert "left" in shown.reason
        status = site.world.ask(site.admin, "/status", Status)
        assert [row.name for row in status.drains] == [COUNTED]
        assert running.poll() is None

        old.shutdown(SHUT_WR)
        out, err = running.communicate(timeout=PATIENCE_S)
        assert (running.returncode, err) == (ExitCode.DONE, "")
        assert out.endswith(f"{COUNTED} is drained: no flow left\n")
        assert site.drains()[COUNTED].quiet_since_s >= row.at_s


def test_a_wait_that_ends_too_soon_leaves_the_drain_and_undrain_ends_it(site: DrainSite):
    with ExitStack() as stack:
        old = connection_to(site, COUNTED, stack)

        code, out, err = site.done("real", "drain", COUNTED, "--wait", "--for", "1s")

        assert code == ExitCode.TIMEOUT, out + err
        assert f"{COUNTED} is not quiet after 1 s" in err
        assert COUNTED in site.drains()
        assert site.done("real", "undrain", COUNTED)[0] == ExitCode.DONE
        assert site.drains() == {}
        assert is_alive(old)


def test_a_real_that_reports_nothing_is_said_to_be_not_counted(site: DrainSite):
    with ExitStack() as stack:
        old = connection_to(site, SILENT, stack)

        code, out, err = site.done("real", "drain", SILENT, "--wait", "--for", "3s")

        assert code == ExitCode.TIMEOUT, out + err
        assert "not counted: the real's agent reports nothing" in out
        assert (site.drains()[SILENT].flows, site.drains()[SILENT].quiet_since_s) == (-1, 0.0)
        assert is_alive(old)
