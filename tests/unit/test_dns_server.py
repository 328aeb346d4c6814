"""The true server as a process, asked by dig and by hand-made bytes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
from dns_stand import DnsStand, framed, read_frame, until
from dns_world import FLEET, ZONE, make_snapshot, question

from gslb.fleet.health import VipState
from gslb.fleet.sqlite_store import SqliteStore
from gslb.service.lifecycle import ExitCode

SPREAD = {"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsStand]:
    """A server that is only asked."""
    server = DnsStand(tmp_path_factory.mktemp("dns"), nsid="ns-test", tcp_idle_s=1.0).start()
    yield server
    server.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[DnsStand]:
    """A server of the test's own, not started, with one worker."""
    server = DnsStand(tmp_path / "dns", workers=1, tcp_connections_max=2, tcp_idle_s=1.0)
    yield server
    if server.process is not None:
        server.stop()


@pytest.mark.parametrize("words", [(), ("+tcp",), ("+notcp", "+noedns"), ("+dnssec",)])
@pytest.mark.parametrize("at", ["127.0.0.1", "::1"])
def test_dig_gets_two_addresses(stand: DnsStand, words: tuple[str, ...], at: str) -> None:
    answers = stand.dig("www.example.com", "+short", *words, at=at).split()

    assert len(answers) == 2
    assert set(answers) <= SPREAD


def test_answers_change_and_cover_every_vip(stand: DnsStand) -> None:
    assert stand.addresses("www.example.com") == SPREAD


def test_dig_gets_the_ecs_scope(stand: DnsStand) -> None:
    text = stand.dig("near.example.com", "+subnet=203.0.113.7/32")

    assert "CLIENT-SUBNET: 203.0.113.7/32/24" in text
    assert "192.0.2.4" in text


def test_dig_is_told_to_come_by_tcp_and_does(stand: DnsStand) -> None:
    small = stand.dig("big.example.com", "TXT", "+bufsize=512", "+ignore")
    whole = stand.dig("big.example.com", "TXT", "+bufsize=512")

    assert " tc " in small.replace(";", " ; ")
    assert whole.count("xxx 7") == 1
    assert "(TCP)" in whole


def test_dig_gets_badvers_nsid_and_do(stand: DnsStand) -> None:
    assert "status: BADVERS" in stand.dig("www.example.com", "+edns=1", "+noednsneg")
    text = stand.dig("www.example.com", "+nsid", "+dnssec")
    assert '"ns-test"' in text
    assert "flags: do" in text


def test_dig_gets_the_rcodes(stand: DnsStand) -> None:
    assert "status: NXDOMAIN" in stand.dig("nope.example.com")
    assert "status: REFUSED" in stand.dig("example.net")
    assert "status: NOTIMP" in stand.dig("example.com", "+opcode=notify")
    assert "Transfer failed" in stand.dig("example.com", "AXFR")


def test_questions_in_one_stream_are_answered_in_order(stand: DnsStand) -> None:
    queries = [question("www.example.com"), question("mail.example.com"), question("x.test")]
    with stand.connect() as stream:
        sent = framed(*queries)
        stream.sendall(sent[:5])
        stream.sendall(sent[5:])
        answers = [read_frame(stream) for _ in queries]

    assert [answer[:2] for answer in answers] == [query[:2] for query in queries]
    assert all(dns.message.from_wire(answer) for answer in answers)


def test_a_peer_that_only_finished_asking_still_gets_its_answer(stand: DnsStand) -> None:
    with stand.connect() as stream:
        stream.sendall(framed(question("mail.example.com")))
        stream.shutdown(socket.SHUT_WR)

        assert read_frame(stream)


def test_half_a_question_is_not_waited_for_for_ever(stand: DnsStand) -> None:
    with stand.connect() as stream:
        stream.sendall(framed(question("mail.example.com"))[:-1])

        assert stream.recv(1) == b""


def test_noise_by_tcp_ends_the_connection(stand: DnsStand) -> None:
    with stand.connect() as stream:
        stream.sendall(b"\0\1x")

        assert stream.recv(1) == b""


def test_a_peer_that_never_reads_is_not_served_for_ever(stand: DnsStand) -> None:
    batch = framed(*[question("big.example.com", "TXT")] * 1000)
    with socket.socket() as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.settimeout(20)
        stream.connect(("127.0.0.1", stand.port))
        with pytest.raises(ConnectionError):  # the server stops reading, then hangs up
            _flood(stream, batch)

    assert stand.ask("mail.example.com").answer


def _flood(stream: socket.socket, batch: bytes) -> None:
    for _ in range(1000):
        stream.sendall(batch)


def test_every_query_is_counted_and_shown(stand: DnsStand) -> None:
    def counted(name: str) -> int:
        rows = stand.admin("/drops")["counters"]
        assert isinstance(rows, list)
        return next(row["packets"] for row in rows if row["name"] == name)

    before = counted("nxdomain")
    stand.ask("nope.example.com")

    until(lambda: counted("nxdomain") == before + 1, "the NXDOMAIN is counted")
    assert 'dns_queries_total{outcome="nxdomain"}' in stand.admin_text("/metrics")


def test_the_seat_shows_and_explains(stand: DnsStand) -> None:
    status = stand.admin("/status")
    assert (status["role"], status["host"]) == ("dns", "t")
    assert len(stand.admin("/vips")["vips"]) == 7  # type: ignore[arg-type]
    assert stand.admin("/reals")["reals"] == []

    told = stand.admin("/explain?name=near.example.com&type=A&client=203.0.113.7")
    assert (told["pool"], told["answers"]) == ("near", ["192.0.2.4"])
    assert told["scope"] == "203.0.113.0/24"
    alias = stand.admin("/explain?name=shop.example.com")
    assert alias["pool"] == "spread"
    assert "alias" in alias["reasons"][0]  # type: ignore[index]
    assert stand.admin("/explain?name=nope.example.com")["rcode"] == "NXDOMAIN"
    assert stand.admin("/explain?name=x.test")["rcode"] == "REFUSED"
    assert stand.admin("/explain?name=a..b")["code"] == ExitCode.USAGE
    assert stand.admin("/explain")["code"] == ExitCode.USAGE
    assert stand.admin("/explain?name=www.example.com&client=nobody")["code"] == ExitCode.USAGE


def test_a_second_start_is_refused(stand: DnsStand) -> None:
    done = stand.run()

    assert done.returncode == ExitCode.RUNNING
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_refused_with_its_address(stand: DnsStand, own: DnsStand) -> None:
    own.listen = (f"127.0.0.1:{stand.port}",)
    own.write_config()
    done = own.run()

    assert done.returncode == ExitCode.PORT_TAKEN
    assert f"127.0.0.1:{stand.port} is taken" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_admin_socket_that_cannot_be_had_ends_the_start(own: DnsStand) -> None:
    text = own.config.read_text().replace("dns.sock", "s" * 120)
    own.config.write_text(text)
    done = own.run()

    assert done.returncode == ExitCode.FAILED
    assert "set $.host.admin_socket" in done.stderr


def test_an_address_of_another_host_is_refused(own: DnsStand) -> None:
    own.listen = ("203.0.113.99:5300",)
    own.write_config()
    done = own.run()

    assert done.returncode == ExitCode.INTERFACE
    assert done.stderr.count("\n") == 1


def test_a_bad_configuration_names_every_fault(own: DnsStand) -> None:
    (own.place / "example.com.zone").write_text("a IN A bogus\n")
    done = own.run("--check")

    assert done.returncode == ExitCode.CONFIG
    assert "line 1: A `bogus`" in done.stderr
    assert "no SOA" in done.stderr


def test_a_good_configuration_is_checked_without_a_start(own: DnsStand) -> None:
    done = own.run("--check")

    assert done.returncode == 0
    assert "good" in done.stdout


async def test_health_from_the_store_changes_the_answers_and_its_loss_does_not(
    own: DnsStand,
) -> None:
    store = SqliteStore(own.store, timeout_s=1.0)
    snapshot = make_snapshot(states={"sin4": VipState.DOWN})
    for held in snapshot.holdings.reports.values():
        await store.publish(held.report)
    await store.close()
    own.start()

    until(lambda: own.addresses("www.example.com") == SPREAD - {"192.0.2.4"}, "sin4 left")
    for leftover in own.place.glob("store.db*"):
        leftover.unlink()
    assert own.addresses("www.example.com") == SPREAD - {"192.0.2.4"}


def test_a_reload_takes_a_good_configuration_and_keeps_a_bad_one_out(own: DnsStand) -> None:
    own.start()
    zone = own.place / "example.com.zone"
    zone.write_text(ZONE + "fresh 60 IN A 192.0.2.99\n")
    own.hang_up()
    until(lambda: bool(own.ask("fresh.example.com").answer), "the new name is answered")

    zone.write_text("broken\n")
    own.hang_up()
    until(lambda: "config.refused" in own.log.read_text(), "the bad zone is refused")
    assert own.ask("fresh.example.com").answer
    assert own.admin("/reload", "POST")["code"] == ExitCode.CONFIG

    (own.place / "fleet.toml").write_text(FLEET.replace("ttl_s = 20", "ttl_s = 21"))
    zone.write_text(ZONE)
    assert "good" in str(own.admin("/reload", "POST")["message"])
    until(lambda: own.ask("www.example.com").answer[0].ttl == 21, "the new TTL is answered")


def test_sigterm_ends_every_process_and_frees_the_port(own: DnsStand) -> None:
    own.start()
    children = own.children()

    assert own.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", own.port))


def test_a_dead_worker_is_started_again_with_an_event(own: DnsStand) -> None:
    own.start()
    worker = own.children()[0]
    os.kill(worker, signal.SIGKILL)

    until(lambda: worker not in own.children() and len(own.children()) == 2, "a new worker")
    until(lambda: all(own.held_sockets(p) for p in own.children()[1:]), "it serves")
    assert own.ask("www.example.com").answer
    until(lambda: "child.died" in own.admin_text("/events"), "the event is shown")


def test_when_the_parent_dies_nothing_stays_behind(own: DnsStand) -> None:
    own.start()
    children = own.children()
    assert own.process is not None
    own.process.kill()

    until(lambda: not any(_lives(pid) for pid in children), "the children ended")


def _lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_connections_above_the_limit_are_closed_and_counted(own: DnsStand) -> None:
    own.start()
    with own.connect() as one, own.connect() as two, own.connect() as three:
        one.sendall(framed(question("mail.example.com")))
        two.sendall(framed(question("mail.example.com")))
        assert read_frame(one)
        assert read_frame(two)
        assert three.recv(1) == b""

    assert 'dns_queries_total{outcome="tcp_refused"} 1.0' in own.admin_text("/metrics")


@pytest.mark.parametrize(
    ("listen", "at"),
    [("0.0.0.0:PORT", "127.0.0.2"), ("[::]:PORT", "127.0.0.3"), ("[::]:PORT", "::1")],
)
def test_a_wildcard_answers_from_the_address_that_was_asked(
    tmp_path: Path, listen: str, at: str
) -> None:
    server = DnsStand(tmp_path / "dns", listen=(listen,), workers=1).start()
    try:
        text = server.dig("mail.example.com", at=at)
    finally:
        server.stop()

    assert "192.0.2.25" in text
    assert "unexpected source" not in text
