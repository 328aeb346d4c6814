"""`waypost config check`, and the commands that turn into daemons."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gslb.service.lifecycle import ExitCode
from ops.cli.config import role_of
from ops.cli.daemons import MODULES
from tests.unit.cli_world import World
from tests.unit.fleet_files import FLEET, ZONE, write_fleet

CONFIGS = Path(__file__).parent.parent.parent / "configs"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_examples_are_good(world: World) -> None:
    files = [f"{CONFIGS}/{name}.toml" for name in ("fleet", "dns", "https", "edge", "real")]

    outcome = world.waypost_now(f"config check {' '.join(files)}")

    assert outcome.err == ""
    assert [line.rpartition(": ")[2] for line in outcome.out.splitlines()] == [
        "ok (fleet)",
        "ok (dns)",
        "ok (https)",
        "ok (edge)",
        "ok (real)",
    ]


def test_every_fault_of_every_file_is_told(world: World, tmp_path: Path) -> None:
    text = FLEET.replace("answers = 1", "answers = 0").replace('["web3"]', '["wbe3"]')
    fleet = write_fleet(tmp_path, text)

    outcome = world.waypost_now(f"config check {fleet} {tmp_path}/absent.toml {CONFIGS}/dns.toml")

    assert outcome.code == ExitCode.CONFIG
    assert outcome.out == f"{CONFIGS}/dns.toml: ok (dns)\n"
    assert outcome.err.splitlines() == [
        f"waypost: {fleet}: $.vip.web-sin.reals[0]: no real `wbe3` (did you mean `web3`?)",
        f"waypost: {fleet}: $.pool.any.answers: 0 is out of range (1..25)",
        (
            f"waypost: {tmp_path}/absent.toml: $: No such file or directory"
            " (check the path and the permissions)"
        ),
    ]


def test_the_zones_of_a_fleet_are_parsed_as_well(world: World, tmp_path: Path) -> None:
    fleet = write_fleet(tmp_path, FLEET, ZONE.replace("3600 IN SOA", "3600 IN SOAP"))

    outcome = world.waypost_now(f"config check {fleet}")

    assert outcome.code == ExitCode.CONFIG
    assert "example.com.zone" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_host_file_is_checked_with_the_fleet_that_it_names(world: World, tmp_path: Path) -> None:
    (tmp_path / "dns.toml").write_text((CONFIGS / "dns.toml").read_text())

    outcome = world.waypost_now(f"config check {tmp_path}/dns.toml")

    assert outcome.code == ExitCode.CONFIG
    assert f"{tmp_path}/fleet.toml: $: No such file or directory" in outcome.err


def test_the_outcome_is_told_as_one_object_too(world: World, tmp_path: Path) -> None:
    fleet = write_fleet(tmp_path, FLEET.replace("answers = 1", "answers = 0"))

    outcome = world.waypost_now(f"--json config check {fleet} {CONFIGS}/edge.toml")

    said = json.loads(outcome.out)
    assert outcome.code == ExitCode.CONFIG
    assert said["schema"] == "waypost/config-check/1"
    assert [(file["role"], file["ok"]) for file in said["files"]] == [
        ("fleet", False),
        ("edge", True),
    ]
    assert said["files"][0]["faults"] == [f"{fleet}: $.pool.any.answers: 0 is out of range (1..25)"]


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("[host]\n[dns]\n", "dns"),
        ("[real]\n", "real"),
        ('[real.web1]\nsite = "fra"\n[site.fra]\n', "fleet"),
        ("[host]\n[egde]\n", "dns"),
        ("", "fleet"),
        ("not toml", "fleet"),
    ],
)
def test_a_file_is_judged_by_its_tables(tmp_path: Path, text: str, role: str) -> None:
    path = tmp_path / "any.toml"
    path.write_text(text)

    assert role_of(path) == role


@pytest.mark.parametrize("role", MODULES)
def test_a_daemons_command_is_the_daemon_with_its_own_exit_code(tmp_path: Path, role: str) -> None:
    example = "edge" if role == "announce" else role  # the speaker reads its edge's own file
    path = tmp_path / f"{role}.toml"
    path.write_text((CONFIGS / f"{example}.toml").read_text().replace("[host]\n", "[hots]\n"))
    command = "from ops.cli.main import main; main()"
    tree = str(CONFIGS.parent)

    child = subprocess.run(
        [sys.executable, "-c", command, role, "--config", str(path), "--check"],
        cwd=tmp_path,
        env={"PYTHONPATH": tree, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert child.returncode == ExitCode.CONFIG, child.stderr
    assert child.stderr == f"waypost: {path}: $.hots: unknown key (did you mean `host`?)\n"
