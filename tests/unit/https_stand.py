"""A real HTTPS service for tests and benchmarks: its files, its child process, ways to ask it.

Everything lives in one folder and on loopback; `stop` ends the process that `start` began.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0  # far above the second that a start takes, for a busy machine

FLEET = """
[fleet]
name = "test"
[site.fra]
location = { country = "DE", lat = 50.11, lon = 8.68 }
edges = ["fra1"]
clients = ["198.51.100.0/25"]
[site.sin]
location = { country = "SG", lat = 1.35, lon = 103.82 }
edges = ["sin1"]
clients = ["198.51.100.128/25"]
[real.fra-web]
site = "fra"
address = "10.1.0.11"
[real.sin-web]
site = "sin"
address = "10.2.0.11"
[vip.fra-a]
site = "fra"
address = "192.0.2.10"
port = 443
reals = ["fra-web"]
[vip.fra-b]
site = "fra"
address = "192.0.2.11"
port = 443
reals = ["fra-web"]
[vip.fra-six]
site = "fra"
address = "2001:db8::10"
port = 443
reals = ["fra-web"]
[vip.sin-a]
site = "sin"
address = "203.0.113.10"
port = 443
reals = ["sin-web"]
[pool.web]
vips = ["fra-a", "fra-b", "fra-six", "sin-a"]
[pool.all]
policy = "spread"
vips = ["fra-a", "fra-b", "sin-a"]
ttl_s = 10
[zone."example.com"]
file = "example.com.zone"
dynamic = { "www" = "web", "any" = "all" }
"""

ZONE = """
$ORIGIN example.com.
$TTL 1h
@    IN SOA ns1 hostmaster ( 1 2h 15m 2w 30 )
     IN NS ns1
     IN MX 10 mail
ns1  IN A 192.0.2.53
     IN AAAA 2001:db8::53
mail 300 IN A 192.0.2.25
docs IN CNAME www
cdn  IN CNAME edge.example.net.
lab  IN NS ns1.lab
ns1.lab IN A 203.0.113.53
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def free_port() -> int:
    """A TCP port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Stand:
    """One HTTPS service with its own authority, in one folder."""

    def __init__(self, folder: Path, *, workers: int = 1, trusted: str = "127.0.0.0/8") -> None:
        self.folder = folder
        self.port = free_port()
        self.certificate, self.private_key = folder / "cert.pem", folder / "key.pem"
        self.authority = folder / "ca.pem"
        self.config = folder / "https.toml"
        self.log = folder / "https.log"
        self.admin = folder / "admin.sock"
        self.store = folder / "store.db"
        self.process: subprocess.Popen[bytes] | None = None
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(str(self.authority))
        self.issue("localhost")
        (folder / "fleet.toml").write_text(FLEET)
        (folder / "example.com.zone").write_text(ZONE)
        self.configure(workers=workers, trusted=trusted)

    def issue(self, *names: str) -> None:
        """Write a new certificate and key, in place of those that are there."""
        leaf = self._ca.issue_cert("127.0.0.1", *names)
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(self.private_key))

    def configure(self, *, workers: int = 1, trusted: str = "", extra: str = "") -> None:
        """Write https.toml."""
        callers = f'"{trusted}"' if trusted else ""
        self.config.write_text(
            f"""[host]
name = "api1"
fleet = "fleet.toml"
admin_socket = "{self.admin}"
state_dir = "{self.folder}/state"
[store]
kind = "sqlite"
path = "{self.store}"
[https]
listen = "127.0.0.1:{self.port}"
certificate = "cert.pem"
private_key = "key.pem"
workers = {workers}
trusted_callers = [{callers}]
{extra}
"""
        )

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the service to its end, for starts that are refused."""
        command = [sys.executable, "-m", "httpdns", "--config", str(self.config), *options]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def start(self) -> None:
        """Start the service and wait until it serves."""
        command = [sys.executable, "-m", "httpdns", "--config", str(self.config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, stdout=log)
        self.wait_for(lambda: self.get("/healthz").status == 200)

    def stop(self) -> int:
        """End the service as systemd would; its exit code."""
        assert self.process is not None, "start was not called"
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def hang_up(self) -> None:
        """Ask the service to reload."""
        assert self.process is not None, "start was not called"
        self.process.send_signal(signal.SIGHUP)

    def context(self) -> ssl.SSLContext:
        """TLS that trusts this stand's authority alone."""
        return ssl.create_default_context(cafile=str(self.authority))

    def connect(self) -> http.client.HTTPSConnection:
        """An HTTP/1.1 connection of the standard library."""
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.context(), timeout=PATIENCE_S
        )

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            found = {key.lower(): value for key, value in response.getheaders()}
            return Reply(status=response.status, headers=found, body=response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        """One GET."""
        return self.ask("GET", path, None, headers)

    def seat(self, path: str, method: str = "GET") -> Reply:
        """One request on the admin socket."""
        connection = http.client.HTTPConnection("admin", timeout=PATIENCE_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.admin))
            connection.request(method, path)
            response = connection.getresponse()
            return Reply(status=response.status, headers={}, body=response.read())
        finally:
            connection.close()

    def events(self) -> list[str]:
        """The names of what happened so far."""
        lines = self.seat("/events").body.splitlines()
        return [json.loads(line)["name"] for line in lines]

    def wait_for(self, happened: Any) -> None:
        """Wait until `happened()` is true; a refused connection is not yet."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if happened():
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise AssertionError(f"did not come to pass; log:\n{self.log.read_text()}")
