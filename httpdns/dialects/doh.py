"""DNS over HTTPS: /dns-query (RFC 8484), the DNS message itself as request and reply.

Owns taking the message out of a GET and the freshness of the reply. What the message is answered
with is `gslb.answer`'s, the same as over UDP and TCP. Pure.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from urllib.parse import parse_qsl

from httpdns.protocol import (
    DNS_BODY_BYTES_MAX,
    QUERY_STRING_BYTES_MAX,
    ErrorCode,
    Fault,
)
from httpdns.wire import HEADER_BYTES

MEDIA_TYPE = "application/dns-message"
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")
_PLAIN = re.compile(r"dns=([A-Za-z0-9_-]+)")  # what every client sends; spares `parse_qsl`
_FIELDS_MAX = 16


def read_query(query: str) -> bytes | Fault:
    """The message of GET ?dns=. Padding, which RFC 8484 section 6 forbids to send, is tolerated."""
    if len(query) > QUERY_STRING_BYTES_MAX:
        return Fault(code=ErrorCode.QUERY_TOO_LONG)
    plain = _PLAIN.fullmatch(query)
    if plain is not None:
        values = [plain[1]]
    else:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
        except ValueError:
            return Fault(code=ErrorCode.QUERY_MALFORMED, detail="too many parameters")
        values = [value for key, value in pairs if key == "dns"]
    if len(values) != 1:
        return Fault(code=ErrorCode.DNS_MALFORMED, detail=f"`dns` is there {len(values)} times")
    text = values[0]
    if not _BASE64URL.fullmatch(text):
        return Fault(code=ErrorCode.DNS_MALFORMED, detail="`dns` is not base64url")
    bare = text.rstrip("=")
    try:
        return read_body(urlsafe_b64decode(bare + "=" * (-len(bare) % 4)))
    except (binascii.Error, ValueError):
        return Fault(code=ErrorCode.DNS_MALFORMED, detail="`dns` is not base64url")


def read_body(body: bytes) -> bytes | Fault:
    """The message of POST; whether it is a query is for the answer path to say."""
    if len(body) > DNS_BODY_BYTES_MAX:
        return Fault(code=ErrorCode.BODY_TOO_LARGE)
    if len(body) < HEADER_BYTES:
        detail = f"{len(body)} bytes are shorter than a DNS header"
        return Fault(code=ErrorCode.DNS_MALFORMED, detail=detail)
    return body
