"""A pair is taken whole and good, or not at all; every refusal names file and mend."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from gslb.fleet.config import ConfigError
from httpdns.certificates import CertificateWatch, Pair, read_pair

NOW_S = datetime.now(UTC).timestamp()
CONFIG = Path("https.toml")


def issue(folder: Path, **more: object) -> tuple[Path, Path]:
    leaf = trustme.CA().issue_cert("localhost", **more)  # type: ignore[arg-type]
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(key))
    return certificate, key


def refusal(certificate: Path, key: Path, now_s: float = NOW_S) -> str:
    with pytest.raises(ConfigError) as caught:
        read_pair(certificate, key, CONFIG, now_s)
    (fault,) = caught.value.faults
    return str(fault)


def test_a_good_pair_is_read_with_its_names_and_its_end(tmp_path: Path) -> None:
    pair = read_pair(*issue(tmp_path), CONFIG, NOW_S)

    assert isinstance(pair, Pair)
    assert pair.subject == "localhost"
    assert pair.not_before_s < NOW_S < pair.not_after_s
    assert pair.key.startswith(b"-----BEGIN PRIVATE KEY-----")


def test_an_expired_certificate_is_refused_with_its_date(tmp_path: Path) -> None:
    ended = datetime.now(UTC) - timedelta(days=1)
    pair = issue(tmp_path, not_after=ended)

    assert f"expired on {ended:%Y-%m-%d}" in refusal(*pair)


def test_a_certificate_of_the_future_points_at_the_clock(tmp_path: Path) -> None:
    assert "check the clock" in refusal(*issue(tmp_path), now_s=0.0)


def test_both_missing_files_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_pair(tmp_path / "a", tmp_path / "b", CONFIG, NOW_S)

    assert [fault.path for fault in caught.value.faults] == [
        "$.https.certificate",
        "$.https.private_key",
    ]


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    certificate, key = issue(tmp_path)
    certificate.write_bytes(content)

    assert "no certificate in PEM" in refusal(certificate, key)


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff\xfe"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    certificate, key = issue(tmp_path)
    key.write_bytes(content)

    assert "no usable private key" in refusal(certificate, key)


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    certificate, key = issue(tmp_path)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    assert "unencrypted" in refusal(certificate, key)


def test_a_foreign_key_is_refused(tmp_path: Path) -> None:
    certificate, _ = issue(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, key = issue(other)

    assert "is not the key of" in refusal(certificate, key)


async def test_a_change_is_told_once_the_files_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("httpdns.certificates.POLL_S", 0.005)
    certificate, key = issue(tmp_path)
    changed = asyncio.Event()
    watch = asyncio.create_task(CertificateWatch(certificate, key, changed.set).run())
    await asyncio.sleep(0)

    issue(tmp_path)
    async with asyncio.timeout(5):
        await changed.wait()

    watch.cancel()
    assert changed.is_set()
