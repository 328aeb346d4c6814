"""The benches over veth send what they say, count all of it, and notice a run that went astray."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, create_server, socket

import pytest
from bench_veth import climb
from veth_loads import TARGETS, Step, UnprovenError, proved
from veth_world import TOOLS, Link, build_tools

pytestmark = pytest.mark.netns
PATIENCE_S = 20
(GUE,) = (target for target in TARGETS if target.name == "waypost gue")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tools")
    build_tools(folder)
    return {name: folder / name for name in TOOLS}


def said(*command: object) -> dict[str, float]:
    done = subprocess.run(
        [str(word) for word in command],
        input="\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def echo_server(tools: dict[str, Path], tmp_path: Path) -> Iterator[tuple[int, Callable[[], int]]]:
    """The port of a running `packets serve`, and what it has counted."""
    with socket(AF_INET, SOCK_STREAM) as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    counter = tmp_path / "count"
    with subprocess.Popen([tools["packets"], "serve", str(port), "7", counter]) as server:
        listening = f":{port:04X} "
        while listening not in Path("/proc/net/udp6").read_text():
            assert server.poll() is None
        yield port, lambda: int.from_bytes(counter.read_bytes(), "little")
        server.kill()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_every_packet_is_counted_and_answered_if_it_asks(
    tools: dict[str, Path], echo_server: tuple[int, Callable[[], int]], address: str
) -> None:
    port, counted = echo_server

    asked = said(tools["packets"], "send", address, port, 5, 10_000, 0.1, "E")
    after_echo = counted()
    silent = said(tools["packets"], "send", address, port, 5, 10_000, 0.1, "S")

    assert 0 < asked["sent"] <= 10_000 * asked["seconds"] + 100  # never faster than asked
    assert asked["answered"] == asked["sent"] == after_echo
    assert silent["answered"] == 0
    assert counted() == after_echo + silent["sent"]


def test_flows_are_all_open_before_the_first_counted_answer(tools: dict[str, Path]) -> None:
    peers: list[socket] = []

    def answer(connection: socket, number: int) -> None:
        while request := connection.recv(4096):
            assert request.endswith(b"\r\n\r\n")
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nre")
            connection.sendall(b"al%d" % (1 + number % 2))  # in two parts

    def serve(listener: socket) -> None:
        for number in range(6):
            peers.append(listener.accept()[0])
            threading.Thread(target=quietly, args=(answer, peers[-1], number)).start()

    with create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=serve, args=(listener,))
        accepting.start()
        told = said(tools["flows"], "127.0.0.1", listener.getsockname()[1], 6, 0.1)
        accepting.join(PATIENCE_S)

    assert len(peers) == 6
    assert [real for real, count in enumerate(told["answers"]) if count] == [1, 2]
    for peer in peers:
        peer.close()


def quietly(answer: Callable[[socket, int], None], connection: socket, number: int) -> None:
    """The generator ends its flows by a reset."""
    with suppress(ConnectionResetError):
        answer(connection, number)


@pytest.mark.parametrize("first", [20_000.0, 1_000_000.0])
def test_a_climb_ends_close_below_what_the_path_carries(first: float) -> None:
    def path(asked: float) -> Step:
        arrived = min(asked, 100_000.0)
        lost = 1 - arrived / asked
        return Step(asked=asked, sent=asked, arrived=arrived, lost=lost, packets=0, cpu_s=0)

    found = climb(path, first)

    assert 80_000 < found.best.arrived <= 100_000
    assert found.too_much is not None
    assert 100_000 < found.too_much.sent < 130_000


def test_a_climb_ends_where_the_sender_does() -> None:
    def sender(asked: float) -> Step:
        sent = min(asked, 70_000.0)
        return Step(asked=asked, sent=sent, arrived=sent, lost=0, packets=0, cpu_s=0)

    found = climb(sender, 20_000.0)

    assert found.best.arrived == 70_000
    assert found.too_much is None


class PaperWorld:
    """A world on paper: what it counts before a load and after it."""

    def __init__(self, *, packets: int = 1000, dropped: int = 0, out: int = 1000, longer: int = 32):
        self._vips = iter(((0, 0, 0), (packets, dropped, 10)))
        sent_bytes = packets * (46 + 14 + longer)
        self._links = iter((Link(0, 0, 0, 0), Link(out, out * 46, packets, sent_bytes)))

    def ask(self, _route: str) -> dict[str, list[dict[str, object]]]:
        packets, dropped, new = next(self._vips)
        row = {"name": "gue", "packets": packets, "dropped": dropped, "flows_new": new}
        return {"vips": [row]}

    def link(self, _host: str) -> Link:
        return next(self._links)

    def arrived(self) -> int:
        return 0


def test_a_run_whose_counters_agree_is_proved() -> None:
    with proved(PaperWorld(), GUE, "gue", 10):
        pass


@pytest.mark.parametrize(
    ("world", "fault"),
    [
        (PaperWorld(out=2000), "2000 packets given to the edge"),
        (PaperWorld(out=900), "900 packets given to the edge"),
        (PaperWorld(dropped=1), "1 dropped"),
        (PaperWorld(longer=20), "each left 20.0 bytes longer"),
    ],
)
def test_a_run_that_went_another_way_is_refused(world: PaperWorld, fault: str) -> None:
    with pytest.raises(UnprovenError, match=fault), proved(world, GUE, "gue", 10):
        pass


def test_a_run_without_new_flows_is_refused() -> None:
    with (
        pytest.raises(UnprovenError, match="10 new flows, not 11"),
        proved(PaperWorld(), GUE, "gue", 11),
    ):
        pass
