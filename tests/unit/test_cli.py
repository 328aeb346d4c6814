"""The command line against daemons' true admin sockets: golden screens, errors, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gslb.fleet.views import EventRecord
from gslb.service.lifecycle import ExitCode
from tests.unit import cli_world
from tests.unit.cli_world import PATIENCE_S, World, daemons
from tests.unit.pcapng_reader import read_blocks

GOLDEN = Path(__file__).parent.parent / "golden" / "cli"
UPDATE = "WAYPOST_UPDATE_GOLDEN"  # set it to write the golden files anew

SCREENS = (
    "status",
    "status --check",
    "--socket RUN/dns.sock status",
    "--socket RUN/dns.sock status --check",
    "--color always status",
    "vip list",
    "vip list --no-header",
    "vip show web-fra-a",
    "vip show dns-fra",
    "real list",
    "--color always real list --vip api-fra",
    "real drain fra-web2 --reason 'kernel upgrade' --by anna",
    "real drain fra-web1 --reason fire --force",
    "real undrain fra-web2",
    "answer explain www.example.com --client 203.0.113.7",
    "flow where 203.0.113.7:40000 web-fra-a",
    "plan",
    "plan --no-header --down fra-web3",
    "plan --drain fra-web2 --weight a=1 --weight b=2",
    "drops",
    "drops --no-header",
    "drops --watch --interval 0.1 --times 1",
    "filter list",
    "filter add 198.18.0.0/15 --deny --for 30m --reason scanners",
    "filter add 203.0.113.0/24 --limit 500 --burst 50 --vip web-fra-a --vip api-fra --for 7d",
    "filter add 198.18.7.0/24 --allow --for 90s --by anna --force",
    "filter remove 203.0.113.0/24",
    "events",
    "events --since 1",
    "datapath show",
    "capture -w RUN/some.pcapng",
    "trace packet --from 203.0.113.7:40000 --to 192.0.2.10:80 --syn",
    "trace packet --from 203.0.113.7:40000 --to 192.0.2.99:53 --proto udp",
)

OBJECTS = (
    "status --json",
    "--json --socket RUN/dns.sock status --check",
    "vip list --json",
    "vip show dns-fra --json",
    "real list --json",
    "--json real list --vip api-fra",
    "--json real undrain fra-web2",
    "answer explain www.example.com aaaa --client 203.0.113.7 --json",
    "flow where 203.0.113.7:40000 web-fra-a --json",
    "plan --json",
    "filter list --json",
    "drops --json",
    "events --json",
    "datapath show --json",
    "capture -w RUN/some.pcapng --json",
    "trace packet --from 203.0.113.7:40000 --to 192.0.2.10:80 --syn --json",
)

ERRORS = (
    "--socket RUN/absent.sock status",
    "--socket RUN/deaf.sock status",
    "--socket RUN/silent.sock --timeout 0.05 status",
    "--socket RUN/rude.sock status",
    "--socket RUN/dns.sock flow where 203.0.113.7:40000 web-fra-a",
    "--socket RUN/dns.sock vip list",
    "--socket RUN/dns.sock drops",
    "vip show web-fra",
    "capture -w RUN/some.pcapng --vip web-fra",
    "capture -w RUN/absent/some.pcapng",
    "--socket RUN/dns.sock capture -w RUN/some.pcapng",
    "capture",
    "real list --vip web-fra",
    "real drain fra-web1",
    "real drain fra-web9",
    "plan --drain fra-web9",
    "--socket RUN/dns.sock plan",
    "filter add 198.18.0.0/15 --deny",
    "filter add 198.18.0.0/15 --for 30m",
    "filter add 198.18.0.0/15 --deny --limit 5 --for 30m",
    "filter add 198.18.0.0/15 --deny --for half-an-hour",
    "filter remove 198.18.0.0/15",
    "real",
    "real --config real.toml list",
    "answer explain www.example.com",
    "edge",
    "nonsense",
    "status --surprise",
    "--timeout never status",
    "--color pink status",
    "completion tcsh",
)

HELP = (
    "--help",
    "status --help",
    "vip --help",
    "vip show --help",
    "real --help",
    "real drain --help",
    "answer explain --help",
    "flow where --help",
    "plan --help",
    "filter --help",
    "filter add --help",
    "drops --help",
    "capture --help",
    "trace packet --help",
    "events --help",
    "config check --help",
    "datapath --help",
    "datapath unload --help",
    "dns --help",
    "edge --help",
    "edge drain --help",
    "announce --help",
)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.delenv("WAYPOST_SOCKET", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("SUDO_USER", "ben")
    with tempfile.TemporaryDirectory(prefix="waypost-cli-") as run_dir:
        async with daemons(Path(run_dir)) as world:
            monkeypatch.setattr("gslb.service.clock.unix_s", lambda: cli_world.NOW_S)
            world.edge_events.add(
                "health.changed", real="fra-web3", state="DOWN", reason="no route"
            )
            world.edge_events.add("drain", real="fra-web2", by="anna", reason='the "old" kernel')
            with contextlib.ExitStack() as stack:
                _odd_sockets(Path(run_dir), stack)
                yield world


def _odd_sockets(run_dir: Path, stack: contextlib.ExitStack) -> None:
    """One nobody listens on, one that never answers, and one that speaks no HTTP."""
    for name in ("deaf", "silent", "rude"):
        held = stack.enter_context(socket.socket(socket.AF_UNIX))
        held.bind(str(run_dir / f"{name}.sock"))
        if name != "deaf":
            held.listen(4)
        if name == "rude":
            loop = asyncio.get_running_loop()
            loop.add_reader(held, _be_rude, held)
            stack.callback(loop.remove_reader, held)


def _be_rude(listener: socket.socket) -> None:
    peer, _ = listener.accept()
    peer.sendall(b"220 mail.example.com ESMTP\r\n")
    peer.close()


@pytest.mark.parametrize(
    ("name", "lines"),
    [("screens", SCREENS), ("objects", OBJECTS), ("errors", ERRORS), ("help", HELP)],
)
async def test_every_screen_is_as_it_was_reviewed(
    world: World, name: str, lines: tuple[str, ...]
) -> None:
    drawn = "".join([await _transcript(world, line) for line in lines])

    golden = GOLDEN / f"{name}.txt"
    if os.environ.get(UPDATE):
        golden.write_text(drawn)
    assert drawn == golden.read_text(), f"look at the difference; {UPDATE}=1 accepts it"


async def _transcript(world: World, line: str) -> str:
    """A command and all that it did, as a person would have seen it."""
    outcome = await world.waypost(line.replace("RUN", str(world.run_dir)))
    out = "".join(f"{text}\n" for text in outcome.out.splitlines())
    err = "".join(f"! {text}\n" for text in outcome.err.splitlines())
    seen = f"$ waypost {line}\n{out}{err}= {outcome.code}\n\n"
    return seen.replace(str(world.run_dir), "RUN").replace("\x1b", "^")


async def test_json_is_what_the_daemon_sent(world: World) -> None:
    outcome = await world.waypost("status --json")

    assert outcome.out.encode() == msgspec.json.encode(cli_world.STATUS) + b"\n"
    assert json.loads(outcome.out)["schema"] == "waypost/status/1"


async def test_an_edge_is_asked_before_a_dns_node_where_both_are_here(world: World) -> None:
    both = await world.waypost("status --check")
    (world.run_dir / "edge.sock").rename(world.run_dir / "gone")
    one = await world.waypost("status --check")

    assert both.out.startswith("ok: edge")
    assert one.out.startswith("unhealthy: dns")
    assert one.code == ExitCode.UNHEALTHY


async def test_the_environment_names_a_socket_and_the_command_line_overrules_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYPOST_SOCKET", str(world.run_dir / "dns.sock"))

    by_environment = await world.waypost("status --check")
    before = await world.waypost(f"--socket {world.run_dir}/edge.sock status --check")
    after = await world.waypost(f"status --check --socket {world.run_dir}/edge.sock")

    assert by_environment.out.startswith("unhealthy: dns")
    assert before.out == after.out
    assert after.out.startswith("ok: edge")


async def test_without_any_daemon_the_mend_is_named(tmp_path: Path) -> None:
    outcome = await World(tmp_path).waypost("status")

    assert outcome.code == ExitCode.UNREACHABLE
    assert "start one, or name it by --socket" in outcome.err
    assert outcome.err.count("\n") == 1


_CHILD = "from ops.cli.main import main; main()"


def _hear_interrupts() -> None:
    """A shell's background jobs, and all that they start, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def _child(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    argv = (sys.executable, "-c", _CHILD, *arguments)
    return await asyncio.create_subprocess_exec(
        *argv, stdout=pipe, stderr=pipe, preexec_fn=_hear_interrupts
    )


async def test_events_are_followed_until_interrupted(world: World) -> None:
    child = await _child(
        "--socket", str(world.run_dir / "edge.sock"), "events", "--follow", "--json"
    )
    assert child.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        held = [await child.stdout.readline() for _ in range(2)]
        world.edge_events.add("store.lost", reason="no answer")
        fresh = msgspec.json.decode(await child.stdout.readline(), type=EventRecord)

        child.send_signal(signal.SIGINT)
        _, err = await child.communicate()

    assert b"health.changed" in held[0]
    assert (fresh.number, fresh.name) == (3, "store.lost")
    assert (child.returncode, err) == (ExitCode.INTERRUPTED, b"\n")


async def test_a_reader_that_has_seen_enough_ends_the_command_quietly(world: World) -> None:
    read, write = os.pipe()
    os.close(read)
    argv = ("--socket", str(world.run_dir / "edge.sock"), "status")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CHILD, *argv), stdout=write, stderr=asyncio.subprocess.PIPE
    )
    os.close(write)

    _, err = await child.communicate()

    assert (child.returncode, err) == (ExitCode.FAILED, b"")


async def test_a_capture_is_the_daemons_file_byte_for_byte(world: World) -> None:
    line = "capture --every 7 --count 9 --seconds 3 --verdict forwarded_syn --vip web-fra-a"
    outcome = await world.waypost(f"{line} -w {world.run_dir}/some.pcapng")
    child = await _child("--socket", f"{world.run_dir}/edge.sock", *line.split(), "-w", "-")
    piped, _ = await child.communicate()

    written = (world.run_dir / "some.pcapng").read_bytes()
    blocks = read_blocks(written)
    assert outcome.code == ExitCode.DONE
    assert blocks[0].options[4] == b"7 9 3.0 FORWARDED_SYN web-fra-a"
    assert [block.kind for block in blocks[2:]] == [6, 6, 5]
    assert piped == written


async def test_a_refused_capture_leaves_an_older_file_alone(world: World) -> None:
    file = world.run_dir / "some.pcapng"
    file.write_bytes(b"older")

    outcome = await world.waypost(f"capture --vip web-fra -w {file}")

    assert (outcome.code, file.read_bytes()) == (ExitCode.USAGE, b"older")


async def test_the_version_is_that_of_the_installed_distribution(world: World) -> None:
    plain = await world.waypost("version")
    as_json = json.loads((await world.waypost("version --json")).out)

    assert plain.out == f"waypost {as_json['version']}\n"
    assert as_json["schema"] == "waypost/version/1"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_scripts_call_the_command(world: World, shell: str) -> None:
    outcome = await world.waypost(f"completion {shell}")

    assert outcome.code == 0
    assert "_WAYPOST_COMPLETE" in outcome.out


async def test_completion_knows_the_names_of_vips(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYPOST_SOCKET", str(world.run_dir / "edge.sock"))
    monkeypatch.setenv("_WAYPOST_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "waypost vip show web")
    monkeypatch.setenv("COMP_CWORD", "3")

    child = await _child()
    out, err = await child.communicate()

    assert out == b"plain,web-fra-a\n", err
