"""What a real of the forwarding tests serves: `python server.py NAME VIP...`, TCP and UDP.

A TCP client says how many bytes it wants: it gets the real's name, so many bytes, and then whatever
it sends. A UDP client gets the real's name and the sum of its datagram. Each VIP has sockets of its
own, which may be there before the address is.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys

PORT = 8080
FREEBIND = {socket.AF_INET: (socket.SOL_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}


def bound(address: str, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind)
    made.setsockopt(*FREEBIND[family], 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, PORT))
    return made


class Answerer(asyncio.DatagramProtocol):
    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        self._transport.sendto(self._name + b" " + hashlib.sha256(data).digest(), client)


async def main(name: bytes, addresses: list[str]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if wanted := await reader.readline():  # a health check says nothing
                writer.write(name + b"\n" + bytes(int(wanted)))
            while data := await reader.read(1 << 16):
                writer.write(data)
            writer.write_eof()
        except OSError:
            pass  # the client's way broke: what is under test, and seen by the client
        writer.close()

    loop = asyncio.get_running_loop()
    for address in addresses:
        await asyncio.start_server(serve, sock=bound(address, socket.SOCK_STREAM))
        await loop.create_datagram_endpoint(
            lambda: Answerer(name), sock=bound(address, socket.SOCK_DGRAM)
        )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].encode(), sys.argv[2:]))
