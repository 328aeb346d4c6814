"""A small world for the site's daemons: one namespace, a veth as its network card, real processes.

Owned by the tests of this folder. Everything started here is ended here, by its process id; the
namespace and its pins go with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TypeVar

import msgspec
from pyroute2 import NetNS, netns

from bpf.program import BPFFS
from edge_lb.vip_traffic import traffic_pins

V = TypeVar("V", bound=msgspec.Struct)
PATIENCE_S = 120.0
"""A bound on every wait, so that a fault ends a test; no test waits for it to pass."""

_SERVER = """
import http.server, socketserver, ssl, sys
class Server(http.server.ThreadingHTTPServer):
    server_bind = socketserver.TCPServer.server_bind  # without a look-up of its own name
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
server = Server((sys.argv[1], int(sys.argv[2])), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket(AF_UNIX, SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


class SiteWorld:
    """One namespace with `eth0` (192.0.2.2/24) and its far end `far0` (192.0.2.1) in another."""

    def __init__(self, folder: Path, label: str) -> None:
        self.folder = folder
        self.name = f"site-{label}-{os.getpid()}"
        self.far = f"{self.name}-far"
        self.pin_dir = BPFFS / f"waypost_{self.name}"
        self._children: list[subprocess.Popen[bytes]] = []
        for name in (self.name, self.far):
            netns.create(name)
        with NetNS(self.far) as far:
            far.link(
                "add",
                ifname="far0",
                kind="veth",
                peer={"ifname": "eth0", "net_ns_fd": self.name},
            )
            self.up(far, "lo")
            self.up(far, "far0", "192.0.2.1")
        with NetNS(self.name) as here:
            self.up(here, "lo")
            self.up(here, "eth0", "192.0.2.2")
            here.route("add", dst="0.0.0.0/0", gateway="192.0.2.1")

    def end_all(self) -> None:
        for child in self._children:
            self.end(child, signal.SIGKILL)

    def close(self) -> None:
        self.end_all()
        for pins in (self.pin_dir, traffic_pins(self.pin_dir)):
            if pins.exists():
                shutil.rmtree(pins)
        for name in (self.name, self.far):
            netns.remove(name)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, *arguments: str, namespace: str = "") -> subprocess.Popen[bytes]:
        """`python ARGUMENTS` inside the namespace; its standard error goes to a file."""
        with (self.folder / "log").open("ab") as log:
            command = self._inside(*arguments, namespace=namespace)
            child = subprocess.Popen(command, stdout=log, stderr=log)
        self._children.append(child)
        return child

    def run(self, *arguments: str, namespace: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._inside(*arguments, namespace=namespace),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def serve(
        self, address: str, port: int = 8080, *, namespace: str = "", certificate: str = ""
    ) -> subprocess.Popen[bytes]:
        """An HTTP server that answers 200 to everything; HTTPS with a certificate's file."""
        options = (certificate,) if certificate else ()
        return self.start("-c", _SERVER, address, str(port), *options, namespace=namespace)

    def end(self, child: subprocess.Popen[bytes], how: signal.Signals) -> int:
        if child.poll() is None:
            child.send_signal(how)
        return child.wait(PATIENCE_S)

    def ask(self, admin: Path, route: str, shape: type[V]) -> V:
        return msgspec.json.decode(self.text(admin, route), type=shape)

    def text(self, admin: Path, route: str) -> str:
        connection = _UnixConnection(admin)
        try:
            connection.request("GET", route)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def fetch(self, admin: Path, route: str) -> tuple[int, bytes]:
        """Status and body, whatever they are."""
        connection = _UnixConnection(admin)
        try:
            connection.request("GET", route)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def tell(self, admin: Path, route: str, params: Mapping[str, str]) -> tuple[int, bytes]:
        connection = _UnixConnection(admin)
        try:
            connection.request("POST", route, msgspec.json.encode(dict(params)))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def wait(self, held: Callable[[], bool]) -> None:
        """Until `held`, looking every 20 ms; the log tells why not."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            try:
                if held():
                    return
            except OSError:
                pass  # the daemon's socket is not there yet
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def addresses(self, interface: str) -> set[str]:
        with NetNS(self.name) as here:
            index = here.link_lookup(ifname=interface)[0]
            return {found.get_attr("IFA_ADDRESS") for found in here.get_addr(index=index)}

    def sysctl(self, key: str) -> str:
        path = f"/proc/sys/net/ipv4/conf/{key}"
        return self.run("-c", f"print(open({path!r}).read().strip())").stdout.strip()

    def xdp_attached(self) -> bool:
        with NetNS(self.name) as here:
            link = here.link("get", ifname="eth0")[0]
            xdp = link.get_attr("IFLA_XDP")
            return xdp is not None and bool(xdp.get_attr("IFLA_XDP_ATTACHED"))

    def set_link(self, *, up: bool) -> None:
        """Plug the network card's far end in, or out."""
        with NetNS(self.far) as far:
            index = far.link_lookup(ifname="far0")[0]
            far.link("set", index=index, state="up" if up else "down")

    def _inside(self, *arguments: str, namespace: str = "") -> list[str]:
        where = f"--net=/run/netns/{namespace or self.name}"
        return ["nsenter", where, "--", sys.executable, *arguments]

    def up(self, ns: NetNS, interface: str, address: str = "") -> None:
        index = ns.link_lookup(ifname=interface)[0]
        ns.link("set", index=index, state="up")
        if address:
            ns.addr("add", index=index, address=address, prefixlen=24)
