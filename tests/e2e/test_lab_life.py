"""The lab itself: commands on its hosts, recovery from a crash, and leaving nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.lab import lab as labs
from ops.lab import processes
from ops.lab.lab import Lab

pytestmark = pytest.mark.e2e
WAYPOST = str(Path(sys.executable).with_name("waypost"))


def waypost(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WAYPOST, *argv], capture_output=True, text=True, timeout=120, check=False
    )


def quiet(_text: str) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def crashed() -> Iterator[Lab]:
    """A lab brought up over the ruins of one whose every process was killed."""
    first = labs.up(quiet, redis=False)
    for name in first.ledger.processes:
        first.kill(name, signal.SIGKILL)
    (labs.paths.STORE_DIR / "store.sqlite").unlink()
    running = labs.up(quiet, redis=False)
    try:
        yield running
    finally:
        labs.down(quiet)


def test_up_after_a_crash_recovers(crashed: Lab) -> None:
    assert crashed.trouble() == []


def test_lab_status_is_well_and_has_json(crashed: Lab) -> None:
    table, as_json = waypost("lab", "status"), waypost("lab", "status", "--json")

    assert table.returncode == 0, table.stdout + table.stderr
    assert "fra-edge1" in table.stdout
    view = json.loads(as_json.stdout)
    assert view["schema"] == "waypost/lab/1"
    assert all(row["running"] for row in view["processes"])


@pytest.mark.parametrize(
    ("host", "argv"),
    [
        ("fra-edge1", ("status", "--check")),
        ("fra-edge1", ("vip", "list")),
        ("fra-edge1", ("vip", "show", "web-fra-1")),
        ("fra-edge1", ("real", "list")),
        ("fra-edge1", ("drops",)),
        ("fra-edge1", ("events",)),
        ("fra-edge1", ("datapath", "show")),
        ("fra-edge1", ("flow", "where", "203.0.113.10:40000", "web-fra-1")),
        ("dns", ("status",)),
        ("dns", ("vip", "list")),
        ("dns", ("answer", "explain", "www.example.com", "--client", "203.0.113.10")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_commands_speak_tables_and_json_on_a_lab_host(
    crashed: Lab, host: str, argv: tuple[str, ...]
) -> None:
    table = waypost("lab", "exec", host, "--", "waypost", *argv)
    as_json = waypost("lab", "exec", host, "--", "waypost", "--json", *argv)

    assert table.returncode == 0, table.stdout + table.stderr
    assert table.stdout.strip()
    assert as_json.returncode == 0, as_json.stderr
    for line in as_json.stdout.splitlines():
        assert json.loads(line)["schema"].startswith("waypost/")


def test_the_real_that_flow_where_names_is_the_one_that_answers(crashed: Lab) -> None:
    port = "43217"
    where = waypost(
        "lab", "exec", "fra-edge1", "--",
        "waypost", "--json", "flow", "where", f"203.0.113.10:{port}", "web-fra-1",
    )  # fmt: skip
    curl = crashed.run("client", "curl", "-sS", "--local-port", port, "http://198.51.100.1/")

    assert json.loads(where.stdout)["real"] == curl.stdout.strip()


def test_a_second_start_of_a_daemon_is_refused_in_one_line(crashed: Lab) -> None:
    host, argv = processes.commands(redis=False)["fra-edge1"]

    done = crashed.run(host, *argv)

    assert done.returncode == 10
    assert "already runs" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_broken_fleet_file_is_refused_at_reload_and_the_running_one_kept(crashed: Lab) -> None:
    fleet = labs.paths.CONFIG_DIR / "fleet.toml"
    good = fleet.read_text()
    try:
        fleet.write_text(good.replace('policy = "spread"', 'polcy = "spread"'))
        crashed.kill("dns", signal.SIGHUP)
        crashed.kill("fra-edge1", signal.SIGHUP)
        checked = crashed.run("dns", "waypost", "config", "check", str(fleet))
    finally:
        fleet.write_text(good)

    assert checked.returncode == 5
    assert "did you mean `policy`" in checked.stdout + checked.stderr
    assert crashed.trouble() == []


def test_two_commands_at_once_do_not_share_the_one_lab(crashed: Lab) -> None:
    with labs.alone():
        done = waypost("lab", "up")

    assert done.returncode == 10
    assert "another command is at work on the lab" in done.stderr
    assert crashed.trouble() == []


def test_down_leaves_nothing_behind(crashed: Lab) -> None:
    done = waypost("lab", "down")

    assert done.returncode == 0, done.stderr
    assert labs.leftovers() == []
    assert not [
        record.name for record in crashed.ledger.processes.values() if processes.alive(record)
    ]
