"""The OpenAPI 3.1 document of the API, made of the very shapes and tables that requests meet.

Owns the prose of the paths; shapes come from `httpdns.protocol` and cannot drift. Served at
/openapi.json by `httpdns.app`; a test holds it against real replies. Pure.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from httpdns.dialects import doh, native
from httpdns.protocol import (
    DOH_PATH,
    ERRORS,
    HEALTH_PATH,
    INDEX_PATH,
    OPENAPI_PATH,
    RESOLVE_PATH,
    Error,
    ErrorCode,
    Health,
    Index,
    ResolveBody,
    ResolveReply,
)

Json = dict[str, object]
_REF = "#/components/schemas/{name}"

_RESOLVE_ERRORS = (
    ErrorCode.NAME_MISSING,
    ErrorCode.NAMES_TOO_MANY,
    ErrorCode.TYPE_UNSUPPORTED,
    ErrorCode.CLIENT_MALFORMED,
    ErrorCode.CLIENT_NOT_TRUSTED,
    ErrorCode.INTERNAL,
)
_GET_ERRORS = (ErrorCode.QUERY_MALFORMED, ErrorCode.QUERY_TOO_LONG)
_POST_ERRORS = (
    ErrorCode.BODY_TOO_LATE,
    ErrorCode.BODY_TOO_LARGE,
    ErrorCode.MEDIA_TYPE_UNSUPPORTED,
)


def document(version: str) -> Json:
    """The whole document, as JSON values."""
    _, schemas = msgspec.json.schema_components(
        [ResolveBody, ResolveReply, Error, Index, Health], ref_template=_REF
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Waypost HTTPS-DNS",
            "version": version,
            "description": "Healthy addresses of a name, for this client, now. "
            "Unknown parameters and members are ignored.",
        },
        "paths": {
            RESOLVE_PATH: {"get": _resolve_get(), "post": _resolve_post()},
            DOH_PATH: {"get": _doh_get(), "post": _doh_post()},
            HEALTH_PATH: {"get": _page("Whether this process answers", "Health")},
            INDEX_PATH: {"get": _page("The paths of this service", "Index")},
            OPENAPI_PATH: {"get": _page("This document", "")},
        },
        "components": {"schemas": schemas},
    }


def _resolve_get() -> Json:
    return {
        "summary": "Addresses of one or many names",
        "parameters": [
            _parameter("name", "A host name; repeat it for more names.", required=True, many=True),
            _parameter("type", "A, AAAA or both with a comma; both where it is left out."),
            _parameter("client", "For whom; trusted callers only, the peer where left out."),
        ],
        "responses": {
            "200": _json("One entry for each name, errors of single names inside.", "ResolveReply"),
            **_errors(*_RESOLVE_ERRORS, *_GET_ERRORS),
        },
    }


def _resolve_post() -> Json:
    return {
        "summary": "Addresses of one or many names, asked by JSON",
        "requestBody": {"required": True, "content": _content(native.MEDIA_TYPE, "ResolveBody")},
        "responses": {
            "200": _json("One entry for each name, errors of single names inside.", "ResolveReply"),
            **_errors(*_RESOLVE_ERRORS, ErrorCode.BODY_MALFORMED, *_POST_ERRORS),
        },
    }


def _doh_get() -> Json:
    return {
        "summary": "DNS over HTTPS (RFC 8484)",
        "parameters": [
            _parameter("dns", "The DNS message in base64url, without padding.", required=True)
        ],
        "responses": {
            "200": _dns_message(),
            **_errors(
                ErrorCode.DNS_MALFORMED,
                ErrorCode.BODY_TOO_LARGE,
                ErrorCode.INTERNAL,
                *_GET_ERRORS,
            ),
        },
    }


def _doh_post() -> Json:
    return {
        "summary": "DNS over HTTPS (RFC 8484)",
        "requestBody": {"required": True, "content": {doh.MEDIA_TYPE: {}}},
        "responses": {
            "200": _dns_message(),
            **_errors(ErrorCode.DNS_MALFORMED, ErrorCode.INTERNAL, *_POST_ERRORS),
        },
    }


def _dns_message() -> Json:
    return {
        "description": "The DNS response, whatever its RCODE.",
        "headers": {
            "Cache-Control": {
                "description": "private, max-age = the least TTL; no-store where there is none.",
                "schema": {"type": "string"},
            }
        },
        "content": {doh.MEDIA_TYPE: {}},
    }


def _page(summary: str, shape: str) -> Json:
    content = _json(summary, shape) if shape else _plain_json(summary)
    return {"summary": summary, "responses": {"200": content}}


def _parameter(name: str, text: str, *, required: bool = False, many: bool = False) -> Json:
    text_schema: Json = {"type": "string"}
    schema: Json = {"type": "array", "items": text_schema} if many else text_schema
    return {
        "name": name,
        "in": "query",
        "description": text,
        "required": required,
        "schema": schema,
    }


def _json(text: str, shape: str) -> Json:
    return {"description": text, "content": _content(native.MEDIA_TYPE, shape)}


def _plain_json(text: str) -> Json:
    return {"description": text, "content": {native.MEDIA_TYPE: {"schema": {"type": "object"}}}}


def _content(media_type: str, shape: str) -> Json:
    return {media_type: {"schema": {"$ref": _REF.format(name=shape)}}}


def _errors(*codes: ErrorCode) -> Json:
    """The error responses, one for each HTTP status, naming every code that it may carry."""
    by_status: dict[int, list[ErrorCode]] = defaultdict(list)
    for code in codes:
        by_status[ERRORS[code].status].append(code)
    return {
        str(status): _json("; ".join(f"{code}: {ERRORS[code].meaning}" for code in same), "Error")
        for status, same in sorted(by_status.items())
    }
