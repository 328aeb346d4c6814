"""Captures as files: read back block by block, and by tcpdump."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from bpf.packets import SYN, TCP, ethernet, ipv4, tcp
from edge_lb import pcapng
from tests.unit.pcapng_reader import Block, read_blocks

FRAME = ethernet(ipv4("203.0.113.7", "198.51.100.1", TCP, tcp(40000, 80, SYN)))
PACKET = pcapng.Packet(
    unix_ns=1_700_000_000_123_456_789,
    octets=FRAME[:53],
    length=len(FRAME),
    outbound=True,
    queue=3,
    comment="FORWARDED_SYN vip=web slot=1 real=web1",
)
FILE = (
    pcapng.opening("waypost 1", "eth0", 256)
    + pcapng.packet(PACKET)
    + pcapng.closing(1_700_000_001_000_000_000, delivered=1, lost=7)
)


def test_every_block_is_whole_and_in_place() -> None:
    blocks = read_blocks(FILE)

    assert [block.kind for block in blocks] == [0x0A0D0D0A, 1, 6, 5]
    assert blocks[0].options[4] == b"waypost 1"
    assert (blocks[1].options[2], blocks[1].options[9]) == (b"eth0", b"\x09")


def test_a_packet_has_its_time_length_direction_queue_and_comment() -> None:
    block = read_blocks(FILE)[2]

    assert block.unix_ns == PACKET.unix_ns
    assert (block.octets, block.length) == (FRAME[:53], len(FRAME))
    assert block.options == {
        1: b"FORWARDED_SYN vip=web slot=1 real=web1",
        2: struct.pack("<I", 2),
        6: struct.pack("<I", 3),
    }


def test_what_came_in_is_marked_so() -> None:
    (block,) = read_blocks(pcapng.packet(pcapng.Packet(**{**_fields(), "outbound": False})))

    assert block.options[2] == struct.pack("<I", 1)


def test_the_end_tells_what_was_lost() -> None:
    block: Block = read_blocks(FILE)[3]

    assert block.options == {5: struct.pack("<Q", 7), 8: struct.pack("<Q", 1)}


def test_tcpdump_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "some.pcapng"
    file.write_bytes(FILE)

    done = subprocess.run(
        ["tcpdump", "-nn", "-tt", "-r", str(file)], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("1700000000.123456 IP 203.0.113.7.40000 > 198.51.100.1.80: ")


def _fields() -> dict[str, object]:
    return {name: getattr(PACKET, name) for name in pcapng.Packet.__slots__}
