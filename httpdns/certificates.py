"""The certificate and its key: read, checked as a pair, and watched for a change.

Owns the rule that a broken, foreign or outlived pair is never taken: the one in use stays. The
parent alone reads the files; workers get the checked bytes. Keys are never written anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from gslb.fleet.config import ConfigError, Fault
from gslb.service import clock

POLL_S = 1.0  # how often the files are looked at
_CERTIFICATE_AT, _KEY_AT = "$.https.certificate", "$.https.private_key"
_MEND_CERTIFICATE = "a PEM file: the server's certificate first, then its intermediates"
_MEND_KEY = "the unencrypted PEM key of the first certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate chain and its key, as PEM, checked to belong together. Unix seconds."""

    chain: bytes
    key: bytes
    subject: str
    not_before_s: float
    not_after_s: float


def read_pair(certificate: Path, key: Path, config: Path, now_s: float) -> Pair:
    """Read and check both files. Raises ConfigError in the name of the `config` file."""
    faults: list[Fault] = []
    chain = _read(certificate, config, _CERTIFICATE_AT, faults)
    secret = _read(key, config, _KEY_AT, faults)
    if faults:
        raise ConfigError(faults)
    return check_pair(chain, secret, certificate, key, config, now_s)


def check_pair(
    chain: bytes, secret: bytes, certificate: Path, key: Path, config: Path, now_s: float
) -> Pair:
    """The pair of these bytes. Raises ConfigError for anything a client would refuse at once."""
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError):
        reason = f"{certificate}: no certificate in PEM"
        raise _refusal(config, _CERTIFICATE_AT, reason, _MEND_CERTIFICATE) from None
    try:
        private = serialization.load_pem_private_key(secret, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _refusal(config, _KEY_AT, f"{key}: no usable private key", _MEND_KEY) from None
    if _public(private.public_key()) != _public(leaf.public_key()):
        reason = f"{key} is not the key of {certificate}"
        raise _refusal(config, _KEY_AT, reason, _MEND_KEY)
    pair = Pair(
        chain=chain,
        key=private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        subject=_names(leaf),
        not_before_s=leaf.not_valid_before_utc.timestamp(),
        not_after_s=leaf.not_valid_after_utc.timestamp(),
    )
    if now_s > pair.not_after_s:
        reason = f"{certificate} expired on {_date(pair.not_after_s)}"
        raise _refusal(config, _CERTIFICATE_AT, reason, "renew it")
    if now_s < pair.not_before_s:
        reason = f"{certificate} is valid only from {_date(pair.not_before_s)}"
        raise _refusal(config, _CERTIFICATE_AT, reason, "check the clock of this host")
    return pair


class CertificateWatch:
    """Looks at the two files and reports when they changed and rest; a Part.

    Files are replaced one after the other, so a change counts once both kept still for one look.
    """

    def __init__(self, certificate: Path, key: Path, on_change: Callable[[], None]) -> None:
        self._paths = (certificate, key)
        self._on_change = on_change

    async def run(self) -> None:
        """Watch until cancelled."""
        taken = seen = self._signature()
        while True:
            await asyncio.sleep(POLL_S)
            now = self._signature()
            if now == seen != taken:
                taken = now
                self._on_change()
            seen = now

    def _signature(self) -> tuple[tuple[int, int, int], ...]:
        found: list[tuple[int, int, int]] = []
        for path in self._paths:
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)


def days_left(pair: Pair) -> float:
    """How long the pair is still good, in days; negative once it is not."""
    return (pair.not_after_s - clock.unix_s()) / 86_400


def _read(path: Path, config: Path, at: str, faults: list[Fault]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = f"{path}: {error.strerror or 'unreadable'}"
        faults.append(Fault(str(config), at, reason, "check the path and the permissions"))
        return b""


def _refusal(config: Path, at: str, reason: str, advice: str) -> ConfigError:
    return ConfigError([Fault(str(config), at, reason, advice)])


def _public(key: object) -> bytes:
    encode = getattr(key, "public_bytes")  # noqa: B009 - every key type has its own class
    der: bytes = encode(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der


def _names(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return leaf.subject.rfc4514_string()
    return ", ".join(str(name.value) for name in names)


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
