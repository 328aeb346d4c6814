"""The HTTPS service as processes: foreign clients, new certificates, faults, drains."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import h2.config
import h2.connection
import pytest

from gslb.fleet.health import EdgeReport, RealHealth, RealState, VipHealth, VipState
from gslb.fleet.sqlite_store import SqliteStore
from tests.unit.https_stand import PATIENCE_S, Stand, free_port

NATIVE = "/v1/resolve?name=www.example.com&type=A&client=198.51.100.7"
FRA = {"192.0.2.10", "192.0.2.11"}


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A service that tests ask and leave as they found it."""
    stand = Stand(tmp_path_factory.mktemp("https"), workers=2)
    stand.start()
    yield stand
    stand.stop()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A service of one test's own, not started yet."""
    own = Stand(tmp_path)
    yield own
    if own.process is not None:
        own.stop()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def workers(stand: Stand) -> list[int]:
    assert stand.process is not None
    found = Path(f"/proc/{stand.process.pid}/task/{stand.process.pid}/children").read_text()
    return [int(pid) for pid in found.split()]


def addresses(stand: Stand) -> set[str]:
    return set(stand.get(NATIVE).json()["names"][0]["addresses"]["A"])


# --- foreign clients ------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
def test_curl_is_answered_by_both_http_versions(steady: Stand, option: str, version: str) -> None:
    url = f"https://127.0.0.1:{steady.port}{NATIVE}"

    out = run(
        *("curl", "-sS", option, "--cacert", str(steady.authority)),
        *("-w", "\n%{http_version} %{http_code}", url),
    )

    body, _, told = out.rpartition("\n")
    assert told == f"{version} 200"
    assert set(json.loads(body)["names"][0]["addresses"]["A"]) <= FRA


@pytest.mark.parametrize("option", ["+https", "+https-get"])
@pytest.mark.parametrize("tool", ["dig", "kdig"])
def test_dig_and_kdig_are_answered_over_https(steady: Stand, tool: str, option: str) -> None:
    ask = [tool, "@127.0.0.1", "-p", str(steady.port), "+https"]
    ask += [option, f"+tls-ca={steady.authority}", "+tls-hostname=localhost"]

    out = run(*ask, "www.example.com", "A", "+subnet=198.51.100.0/25", "+noall", "+answer")

    found = {line.split()[-1] for line in out.splitlines() if "\tA\t" in line}
    assert found == FRA


def test_tls_below_1_2_is_refused(steady: Stand) -> None:
    context = steady.context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", steady.port), PATIENCE_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        assert tls.version() == "TLSv1.2"
    done = subprocess.run(
        ["curl", "-sS", "-k", "--tls-max", "1.1", f"https://127.0.0.1:{steady.port}/"],
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 35  # CURLE_SSL_CONNECT_ERROR


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 200, os.urandom(500), b""],
    ids=["plain-http", "broken-hello", "noise", "silence"],
)
def test_what_is_not_tls_troubles_nobody_else(steady: Stand, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", steady.port), PATIENCE_S) as raw:
        raw.sendall(garbage)
        assert steady.get("/healthz").status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["no-http", "version", "length", "long-line", "bad-chunk"],
)
def test_malformed_http_is_refused_and_troubles_nobody_else(steady: Stand, head: bytes) -> None:
    with (
        socket.create_connection(("127.0.0.1", steady.port), PATIENCE_S) as raw,
        steady.context().wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        answer = b""
        with suppress(OSError):  # the server may hang up before it has read it all
            tls.sendall(head)
            answer = tls.recv(100)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert steady.get("/healthz").status == 200


def test_bad_requests_are_refused_by_the_table_over_the_wire(steady: Stand) -> None:
    found = [
        (reply.status, reply.json()["code"])
        for reply in (
            steady.get("/v1/resolve"),
            steady.get("/nowhere"),
            steady.ask("DELETE", "/dns-query"),
            steady.ask("POST", "/dns-query", b"x", {"Content-Type": "text/plain"}),
            steady.ask(
                "POST", "/dns-query", b"\0" * 9000, {"Content-Type": "application/dns-message"}
            ),
        )
    ]

    assert found == [
        (400, "NAME_MISSING"),
        (404, "PATH_UNKNOWN"),
        (405, "METHOD_NOT_ALLOWED"),
        (415, "MEDIA_TYPE_UNSUPPORTED"),
        (413, "BODY_TOO_LARGE"),
    ]


def test_outcomes_of_all_workers_are_summed_for_operators(steady: Stand) -> None:
    def lines() -> dict[str, float]:
        text = steady.seat("/metrics").body.decode()
        pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    key = 'https_requests_total{outcome="NAMES_TOO_MANY"}'
    before = lines()[key]
    for _ in range(8):
        steady.get("/v1/resolve?" + "&".join(f"name=n{number}" for number in range(40)))

    assert lines()[key] == before + 8
    assert lines()["https_workers"] == 2


def test_status_tells_what_an_operator_needs(steady: Stand) -> None:
    status = steady.seat("/status").json()

    assert status["role"] == "https"
    assert status["schema"] == "waypost/status/1"
    assert {row["name"] for row in status["vips"]} == {"fra-a", "fra-b", "fra-six", "sin-a"}
    assert "2 workers" in status["datapath"]
    assert steady.seat("/drops").json()["unit"] == "requests"
    assert steady.seat("/vips").json()["schema"] == "waypost/vips/1"
    assert steady.seat("/reals").json()["schema"] == "waypost/reals/1"


# --- starts that are refused ----------------------------------------------------------------------


def refused(stand: Stand, *options: str) -> tuple[int, str]:
    done = stand.run(*options)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


def test_check_says_well_and_starts_nothing(stand: Stand) -> None:
    done = stand.run("--check")

    assert done.returncode == 0
    assert "well" in done.stdout
    assert not (stand.folder / "state").exists()


def test_a_missing_certificate_is_named(stand: Stand) -> None:
    stand.certificate.unlink()

    code, line = refused(stand, "--check")

    assert code == 5
    assert "$.https.certificate" in line
    assert "No such file" in line


def test_a_key_of_another_certificate_is_named(stand: Stand) -> None:
    held = stand.certificate.read_bytes()
    stand.issue("other")
    stand.certificate.write_bytes(held)

    code, line = refused(stand)

    assert code == 5
    assert "is not the key of" in line


def test_every_fault_of_the_file_is_told_at_once(stand: Stand) -> None:
    stand.configure(workers=0, trusted="10.0.0.1/8", extra="names_max = 900")

    done = stand.run("--check")

    assert done.returncode == 5
    for path in ("trusted_callers[0]", "workers", "names_max"):
        assert f"$.https.{path}" in done.stderr


def test_a_misspelt_key_is_told_with_the_nearest(stand: Stand) -> None:
    stand.configure(extra="trusted_caller = []")

    code, line = refused(stand)

    assert code == 5
    assert "did you mean `trusted_callers`?" in line


def test_a_taken_port_is_told_with_the_mend(stand: Stand) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", stand.port))
        other.listen()
        stand.configure(workers=2)

        code, line = refused(stand)

    assert code == 8
    assert f"127.0.0.1:{stand.port} is taken" in line


def test_a_second_start_is_refused(stand: Stand) -> None:
    stand.start()

    code, line = refused(stand)

    assert code == 10
    assert "already runs" in line


def test_an_address_that_is_not_here_is_told(stand: Stand) -> None:
    text = stand.config.read_text().replace("127.0.0.1:", "192.0.2.99:")
    stand.config.write_text(text)

    code, line = refused(stand)

    assert code == 14
    assert "192.0.2.99" in line


# --- certificates ---------------------------------------------------------------------------------


def subject_of(stand: Stand) -> set[str]:
    with (
        socket.create_connection(("127.0.0.1", stand.port), PATIENCE_S) as raw,
        stand.context().wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        found = tls.getpeercert()
    assert found is not None
    names = found["subjectAltName"]
    return {str(value) for kind, value in names if kind == "DNS"}  # type: ignore[misc,index]


class Stream:
    """New connections, one request each, in a thread, until told to stop."""

    def __init__(self, stand: Stand) -> None:
        self._stand, self._ended = stand, threading.Event()
        self.statuses: list[int] = []
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.statuses.append(self._stand.get("/healthz").status)
            except OSError as error:
                self.failures.append(repr(error))


def test_a_new_certificate_is_taken_in_place_and_no_connection_is_refused(stand: Stand) -> None:
    stand.start()
    assert subject_of(stand) == {"localhost"}

    with Stream(stand) as stream:
        stand.issue("localhost", "renewed.example")
        stand.wait_for(lambda: "renewed.example" in subject_of(stand))
        stand.wait_for(lambda: len(workers(stand)) == 1)

    assert stream.failures == []
    assert set(stream.statuses) == {200}
    assert "certificate.replaced" in stand.events()


class Frames:
    """The frames of an HTTP/2 connection, as far as this test needs them (RFC 9113 section 4.1)."""

    def __init__(self) -> None:
        self.ended: set[int] = set()
        self.last: int | None = None
        self.pongs = b""
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Note the streams that ended, the last stream of a GOAWAY, and the pongs that are due."""
        self._rest += data
        while len(self._rest) >= 9:
            length, kind, flags = int.from_bytes(self._rest[:3], "big"), *self._rest[3:5]
            if len(self._rest) < 9 + length:
                return
            if kind in (0, 1) and flags & 1:  # DATA or HEADERS with END_STREAM
                self.ended.add(int.from_bytes(self._rest[5:9], "big"))
            if kind == 7:
                self.last = int.from_bytes(self._rest[9:13], "big")
            if kind == 6 and not flags & 1:
                self.pongs += b"\0\0\x08\x06\x01\0\0\0\0" + self._rest[9:17]
            self._rest = self._rest[9 + length :]


def test_every_http2_stream_that_the_old_worker_took_is_answered(stand: Stand) -> None:
    stand.start()
    context = stand.context()
    context.set_alpn_protocols(["h2"])
    frames, taken = Frames(), set[int]()
    with (
        socket.create_connection(("127.0.0.1", stand.port), PATIENCE_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        link.initiate_connection()
        link.increment_flow_control_window(1 << 30)
        stand.issue("localhost", "renewed.example")
        while True:
            while frames.last is None and len(taken - frames.ended) < 20:
                number = link.get_next_available_stream_id()
                head = [(":method", "GET"), (":path", NATIVE), (":scheme", "https")]
                link.send_headers(number, [*head, (":authority", "localhost")], end_stream=True)
                taken.add(number)
            with suppress(OSError):  # it may have closed, with the last answers still to be read
                tls.sendall(link.data_to_send() + frames.pongs)
            frames.pongs = b""
            data = tls.recv(65536)
            if not data:
                break
            frames.take(data)
            if frames.last is None:  # h2 counts a connection with GOAWAY as closed
                link.receive_data(data)
                frames.pongs = b""  # h2 sends these itself

    assert frames.last is not None
    assert len(frames.ended) > 20
    assert {number for number in taken if number <= frames.last} == frames.ended


def test_a_broken_certificate_is_refused_and_the_old_one_kept(stand: Stand) -> None:
    stand.start()
    stand.certificate.write_text("not a certificate")

    stand.wait_for(lambda: "certificate.refused" in stand.events())

    assert subject_of(stand) == {"localhost"}
    assert "no certificate in PEM" in stand.log.read_text()
    os.kill(workers(stand)[0], signal.SIGKILL)
    stand.wait_for(lambda: subject_of(stand) == {"localhost"})


# --- life and death -------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced(stand: Stand) -> None:
    stand.start()
    (before,) = workers(stand)

    os.kill(before, signal.SIGKILL)
    stand.wait_for(lambda: "worker.died" in stand.events())
    stand.wait_for(lambda: stand.events()[-1] == "worker.serving")

    assert workers(stand) != [before]
    assert stand.get("/healthz").status == 200


def test_workers_leave_when_their_parent_is_killed(stand: Stand) -> None:
    stand.start()
    left = workers(stand)
    assert stand.process is not None

    stand.process.kill()
    stand.process.wait(PATIENCE_S)

    stand.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
    stand.start()
    assert stand.get("/healthz").status == 200


def test_sigterm_ends_with_0_and_leaves_no_socket_file(stand: Stand) -> None:
    stand.start()
    connection = stand.connect()
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()

    assert stand.stop() == 0

    assert not stand.admin.exists()
    connection.close()


def test_a_bad_reload_is_refused_and_a_good_one_changes_answers(stand: Stand) -> None:
    stand.start()
    (worker,) = workers(stand)
    fleet = stand.folder / "fleet.toml"
    good = fleet.read_text()

    fleet.write_text(good.replace("[pool.web]", "[pool.web]\nansers = 1"))
    refusal = stand.seat("/reload", "POST")
    assert refusal.status == 422
    assert "did you mean `answers`?" in refusal.json()["message"]
    assert addresses(stand) == FRA

    fleet.write_text(good.replace("[pool.web]", "[pool.web]\nanswers = 1"))
    stand.hang_up()
    stand.wait_for(lambda: len(addresses(stand)) == 1)
    assert workers(stand) == [worker]


def test_a_worker_that_dies_over_a_broken_file_comes_back_with_the_running_configuration(
    stand: Stand,
) -> None:
    stand.start()
    (stand.folder / "fleet.toml").write_text("[fleet")

    os.kill(workers(stand)[0], signal.SIGKILL)
    stand.wait_for(lambda: "worker.died" in stand.events())

    stand.wait_for(lambda: addresses(stand) == FRA)
    assert stand.seat("/reload", "POST").status == 422


async def report_down(path: Path, *names: str) -> None:
    """The edge of fra reports these VIPs as DOWN and the others as UP."""
    store = SqliteStore(path, timeout_s=1.0)
    vips = []
    for name in ("fra-a", "fra-b", "fra-six"):
        down = name in names
        real = RealHealth(
            name="fra-web",
            state=RealState.DOWN if down else RealState.UP,
            since_s=0.0,
            reason="test",
        )
        state = VipState.DOWN if down else VipState.UP
        vips.append(VipHealth(name=name, state=state, since_s=0.0, reals=(real,)))
    await store.publish(
        EdgeReport(
            site="fra",
            edge="fra1",
            config_hash="abc",
            generation=1,
            sequence=1,
            observed_at_s=1_800_000_000.0,
            lease_s=3600.0,
            doubt=False,
            vips=tuple(vips),
        )
    )
    await store.close()


def test_a_lost_store_changes_no_answer_not_even_of_a_worker_that_starts_then(stand: Stand) -> None:
    asyncio.run(report_down(stand.store, "fra-a"))
    stand.start()
    assert addresses(stand) == {"192.0.2.11"}
    stand.wait_for(lambda: (stand.folder / "state" / "https.state").exists())

    for path in stand.folder.glob("store.db*"):
        path.unlink()
    stand.store.mkdir()
    stand.wait_for(lambda: stand.get("/healthz").json()["store"] == "lost")
    assert addresses(stand) == {"192.0.2.11"}

    os.kill(workers(stand)[0], signal.SIGKILL)
    stand.wait_for(lambda: "worker.died" in stand.events())
    stand.wait_for(lambda: stand.events()[-1] == "worker.serving")
    assert addresses(stand) == {"192.0.2.11"}
    assert stand.seat("/status").json()["store"] != "ok"


def test_health_that_changes_changes_answers_at_once(stand: Stand) -> None:
    stand.start()
    assert addresses(stand) == FRA

    asyncio.run(report_down(stand.store, "fra-b"))

    stand.wait_for(lambda: addresses(stand) == {"192.0.2.10"})
    assert stand.get("/healthz").json()["generation"] == 1


def test_two_services_do_not_share_a_port_unseen(stand: Stand, tmp_path: Path) -> None:
    stand.configure(workers=2)
    stand.start()
    other = tmp_path / "other"
    other.mkdir()
    second = Stand(other, workers=2)
    second.port = stand.port
    second.configure(workers=2)

    code, line = refused(second)

    assert code == 8
    assert str(stand.port) in line
    assert free_port() != stand.port
