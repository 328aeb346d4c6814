"""What a caller of the HTTPS API asks and gets: the shapes, the error table, the outcomes.

Owns every name that a client library may rely on. `httpdns.openapi` publishes these shapes and
docs/protocol-https.md lists the table; tests hold all three together. Pure: never reads a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from gslb.fleet.model import Address

RESOLVE_PATH = "/v1/resolve"
DOH_PATH = "/dns-query"
OPENAPI_PATH = "/openapi.json"
HEALTH_PATH = "/healthz"
INDEX_PATH = "/"

NAME_BYTES_MAX = 253  # RFC 1035 section 2.3.4, without the trailing dot
QUERY_STRING_BYTES_MAX = 8 * 1024  # 16 names of 253 bytes, escaped
JSON_BODY_BYTES_MAX = 16 * 1024
DNS_BODY_BYTES_MAX = 4 * 1024  # one question with padding (RFC 8467 pads queries to 128)


class RecordType(StrEnum):
    """The address families that the native API knows."""

    A = "A"
    AAAA = "AAAA"


class ErrorCode(StrEnum):
    """Everything that can be wrong with a request, or with one name of it."""

    NAME_MISSING = "NAME_MISSING"
    NAMES_TOO_MANY = "NAMES_TOO_MANY"
    TYPE_UNSUPPORTED = "TYPE_UNSUPPORTED"
    CLIENT_MALFORMED = "CLIENT_MALFORMED"
    CLIENT_NOT_TRUSTED = "CLIENT_NOT_TRUSTED"
    QUERY_MALFORMED = "QUERY_MALFORMED"
    BODY_MALFORMED = "BODY_MALFORMED"
    BODY_TOO_LATE = "BODY_TOO_LATE"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    QUERY_TOO_LONG = "QUERY_TOO_LONG"
    MEDIA_TYPE_UNSUPPORTED = "MEDIA_TYPE_UNSUPPORTED"
    DNS_MALFORMED = "DNS_MALFORMED"
    PATH_UNKNOWN = "PATH_UNKNOWN"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    INTERNAL = "INTERNAL"
    NAME_MALFORMED = "NAME_MALFORMED"
    NOT_SERVED = "NOT_SERVED"
    NO_SUCH_NAME = "NO_SUCH_NAME"
    DELEGATED = "DELEGATED"
    ALIAS_OUTSIDE = "ALIAS_OUTSIDE"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the error table: the HTTP status (200: an error of one name) and the mend."""

    status: int
    meaning: str
    mend: str


ERRORS: dict[ErrorCode, ErrorKind] = {
    ErrorCode.NAME_MISSING: ErrorKind(
        400, "no name was asked", "send at least one `name`, like ?name=www.example.com"
    ),
    ErrorCode.NAMES_TOO_MANY: ErrorKind(
        400, "more names than one request may carry", "split the names over several requests"
    ),
    ErrorCode.TYPE_UNSUPPORTED: ErrorKind(
        400, "a record type that is not A or AAAA", "ask A, AAAA or both; /dns-query has every type"
    ),
    ErrorCode.CLIENT_MALFORMED: ErrorKind(
        400, "`client` is not one IP address", "send an address like 203.0.113.7 or 2001:db8::7"
    ),
    ErrorCode.CLIENT_NOT_TRUSTED: ErrorKind(
        403,
        "`client` was sent from a network that may not speak for others",
        "leave `client` out, or have your network listed in trusted_callers",
    ),
    ErrorCode.QUERY_MALFORMED: ErrorKind(
        400,
        "the query string cannot be read",
        "escape it as UTF-8; send `client` once, and 128 parameters at most",
    ),
    ErrorCode.BODY_MALFORMED: ErrorKind(
        400, "the JSON body cannot be read", 'send an object like {"names": ["www.example.com"]}'
    ),
    ErrorCode.BODY_TOO_LATE: ErrorKind(
        408, "the body did not arrive in time", "send the whole body at once"
    ),
    ErrorCode.BODY_TOO_LARGE: ErrorKind(
        413, "the body is larger than allowed", "16 KiB for JSON, 4 KiB for a DNS message"
    ),
    ErrorCode.QUERY_TOO_LONG: ErrorKind(
        414, "the query string is longer than 8 KiB", "split the names, or use POST"
    ),
    ErrorCode.MEDIA_TYPE_UNSUPPORTED: ErrorKind(
        415,
        "the Content-Type is not the one of this path",
        "application/json for /v1/resolve, application/dns-message for /dns-query",
    ),
    ErrorCode.DNS_MALFORMED: ErrorKind(
        400,
        "there is no DNS query in the request",
        "send `dns` as base64url (RFC 8484), or the message as the body of a POST",
    ),
    ErrorCode.PATH_UNKNOWN: ErrorKind(404, "no such path", "GET / lists the paths"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorKind(
        405, "the method does not fit the path", "the Allow header names those that do"
    ),
    ErrorCode.INTERNAL: ErrorKind(
        500, "a fault of the service", "try again, or ask another server of the service"
    ),
    ErrorCode.NAME_MALFORMED: ErrorKind(
        200,
        "not a host name",
        "labels of 1 to 63 letters, digits, - or _, 253 in all; write IDN as A-labels (xn--)",
    ),
    ErrorCode.NOT_SERVED: ErrorKind(
        200, "the name is in no zone of this service", "ask the local resolver for this name"
    ),
    ErrorCode.NO_SUCH_NAME: ErrorKind(
        200, "the zone has no such name (NXDOMAIN)", "check the spelling; cache this for ttl_s"
    ),
    ErrorCode.DELEGATED: ErrorKind(
        200, "the name belongs to a zone of other servers", "ask the local resolver for this name"
    ),
    ErrorCode.ALIAS_OUTSIDE: ErrorKind(
        200,
        "the name is an alias of a name that this service does not answer",
        "ask the local resolver for `alias`",
    ),
}


class Outcome(StrEnum):
    """What became of a request; each is counted. Every request-level error is one of its own."""

    RESOLVED = "RESOLVED"  # native, every name answered
    RESOLVED_PARTLY = "RESOLVED_PARTLY"  # native, at least one name carries an error
    DNS_ANSWERED = "DNS_ANSWERED"  # /dns-query, whatever the RCODE
    PAGE = "PAGE"  # index, health or OpenAPI
    CLIENT_GONE = "CLIENT_GONE"  # the caller left before it was answered
    NAME_MISSING = ErrorCode.NAME_MISSING
    NAMES_TOO_MANY = ErrorCode.NAMES_TOO_MANY
    TYPE_UNSUPPORTED = ErrorCode.TYPE_UNSUPPORTED
    CLIENT_MALFORMED = ErrorCode.CLIENT_MALFORMED
    CLIENT_NOT_TRUSTED = ErrorCode.CLIENT_NOT_TRUSTED
    QUERY_MALFORMED = ErrorCode.QUERY_MALFORMED
    BODY_MALFORMED = ErrorCode.BODY_MALFORMED
    BODY_TOO_LATE = ErrorCode.BODY_TOO_LATE
    BODY_TOO_LARGE = ErrorCode.BODY_TOO_LARGE
    QUERY_TOO_LONG = ErrorCode.QUERY_TOO_LONG
    MEDIA_TYPE_UNSUPPORTED = ErrorCode.MEDIA_TYPE_UNSUPPORTED
    DNS_MALFORMED = ErrorCode.DNS_MALFORMED
    PATH_UNKNOWN = ErrorCode.PATH_UNKNOWN
    METHOD_NOT_ALLOWED = ErrorCode.METHOD_NOT_ALLOWED
    INTERNAL = ErrorCode.INTERNAL


OUTCOME_INDEX = {outcome: index for index, outcome in enumerate(Outcome)}
"""The column of each outcome in the table of counters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A well-formed native request: names as sent (each once), families, and for whom."""

    names: tuple[str, ...]
    types: tuple[RecordType, ...]
    client: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A request that is refused; `detail` says what was wrong in this one."""

    code: ErrorCode
    detail: str = ""
    allow: tuple[str, ...] = ()  # for METHOD_NOT_ALLOWED

    def body(self) -> Error:
        """The fault as its JSON body."""
        kind = ERRORS[self.code]
        return Error(code=self.code, message=self.detail or kind.meaning, mend=kind.mend)


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON object of the API. What is not set is absent."""


class ResolveBody(_Shape, frozen=True):
    """The body of POST /v1/resolve. Unknown members are ignored, as unknown parameters are."""

    names: list[str]
    types: list[str] = []
    client: str = ""


class Error(_Shape, frozen=True):
    """Why a request was refused. `code` is of a closed set; the texts are for people."""

    code: ErrorCode
    message: str
    mend: str
    schema: str = "waypost/error/1"


class NameFault(_Shape, frozen=True):
    """Why one name has no addresses, while the others of the request have theirs."""

    code: ErrorCode
    message: str
    mend: str


class Addresses(_Shape, frozen=True):
    """Addresses by family, in the order to try. A family that was not asked is absent."""

    A: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    AAAA: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class NameReply(_Shape, frozen=True):
    """The answer for one name.

    `ttl_s`: seconds to keep it, absences too; 0 where it may not be kept. `scope`: the network
    whose clients get the same choice; absent where the choice does not depend on the client.
    """

    name: str
    addresses: Addresses
    ttl_s: int
    scope: str | msgspec.UnsetType = msgspec.UNSET
    alias: str | msgspec.UnsetType = msgspec.UNSET
    error: NameFault | msgspec.UnsetType = msgspec.UNSET


class ResolveReply(_Shape, frozen=True):
    """The answer of /v1/resolve, one entry for each distinct name, in the order asked."""

    generation: int
    client: str
    names: tuple[NameReply, ...]
    schema: str = "waypost/resolve/1"


class Index(_Shape, frozen=True):
    """GET /"""

    version: str
    service: str = "waypost https"
    paths: tuple[str, ...] = (RESOLVE_PATH, DOH_PATH, OPENAPI_PATH, HEALTH_PATH)
    schema: str = "waypost/index/1"


class Health(_Shape, frozen=True):
    """GET /healthz: 200 while this process answers. A lost store is no reason to stop asking."""

    status: str
    generation: int
    store: str
    schema: str = "waypost/health/1"


def name_fault(code: ErrorCode, detail: str = "") -> NameFault:
    """The error of one name, in the words of the table."""
    kind = ERRORS[code]
    return NameFault(code=code, message=detail or kind.meaning, mend=kind.mend)
