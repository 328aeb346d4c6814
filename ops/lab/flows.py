"""Long connections held in one process, asked by line: the lab's proof that flows keep their real.

Run inside the client's namespace as `python -m ops.lab.flows ADDRESS PORT COUNT`. Reads one word a
line on standard input and answers with one JSON object a line:
`ask` sends a request over every held connection, `fresh N` opens and closes N new ones, `udp N`
sends N datagrams from N ports. Each answer maps a connection's number to the real that answered,
or to an error in words. Imports nothing of ours, so that it starts at once.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys

TIMEOUT_S = 3.0


def _ask(connection: http.client.HTTPConnection) -> str:
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"error: {str(error) or type(error).__name__}"


def _fresh(address: str, port: int) -> str:
    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
    try:
        return _ask(connection)
    finally:
        connection.close()


def _datagram(address: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(TIMEOUT_S)
        channel.connect((address, port))
        try:
            channel.send(b"who\n")
            return channel.recv(512).decode().strip()
        except OSError as error:
            return f"error: {error}"


def serve(address: str, port: int, count: int) -> None:
    """Hold `count` connections and obey standard input until it ends."""
    held = [http.client.HTTPConnection(address, port, timeout=TIMEOUT_S) for _ in range(count)]
    for connection in held:
        connection.auto_open = 0  # a lost flow must show, not be opened anew
        connection.connect()
    for line in sys.stdin:
        verb, _, number = line.strip().partition(" ")
        if verb == "ask":
            answers = {i: _ask(connection) for i, connection in enumerate(held)}
        elif verb == "fresh":
            answers = {i: _fresh(address, port) for i in range(int(number))}
        elif verb == "udp":
            answers = {i: _datagram(address, port) for i in range(int(number))}
        else:
            answers = {0: f"error: unknown verb `{verb}`"}
        sys.stdout.write(json.dumps(answers) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
