"""The HTTP application: every refusal by name, every outcome counted, OpenAPI true."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import dns.message
import pytest

from httpdns.openapi import document
from httpdns.protocol import ERRORS, ErrorCode, Outcome
from tests.unit.https_world import Request, Site, Wire

JSON = ("content-type", "application/json")
DNS = ("content-type", "application/dns-message")
QUERY = dns.message.make_query("www.example.com.", "A")
QUERY.id = 0
RAW = QUERY.to_wire()
TEXT = urlsafe_b64encode(RAW).decode().rstrip("=")
RESPONSE = dns.message.make_response(QUERY).to_wire()


def get(path: str, query: str = "", **more: Any) -> Request:
    return Request(path, query, **more)


def post(path: str, *headers: tuple[str, str]) -> Request:
    return Request(path, method="POST", headers=headers)


BAD: list[tuple[ErrorCode, Request, tuple[bytes, ...]]] = [
    (ErrorCode.NAME_MISSING, get("/v1/resolve"), ()),
    (ErrorCode.NAME_MISSING, get("/v1/resolve", "name="), ()),
    (ErrorCode.NAME_MISSING, get("/v1/resolve", "nom=www.example.com"), ()),
    (ErrorCode.NAMES_TOO_MANY, get("/v1/resolve", "name=a&name=b&name=c&name=d&name=e"), ()),
    (ErrorCode.TYPE_UNSUPPORTED, get("/v1/resolve", "name=a&type=MX"), ()),
    (ErrorCode.TYPE_UNSUPPORTED, get("/v1/resolve", "name=a&type=A,HTTPS"), ()),
    (ErrorCode.CLIENT_MALFORMED, get("/v1/resolve", "name=a&client=300.1.1.1"), ()),
    (ErrorCode.CLIENT_NOT_TRUSTED, get("/v1/resolve", "name=a&client=192.0.2.1"), ()),
    (ErrorCode.QUERY_MALFORMED, get("/v1/resolve", "name=%ff"), ()),
    (ErrorCode.QUERY_MALFORMED, get("/v1/resolve", "name=a&client=::1&client=::2"), ()),
    (ErrorCode.QUERY_MALFORMED, get("/v1/resolve", "&".join(["x=y"] * 200)), ()),
    (ErrorCode.QUERY_MALFORMED, get("/v1/resolve", "&".join(["x=%20"] * 200)), ()),
    (ErrorCode.QUERY_TOO_LONG, get("/v1/resolve", "name=" + "a" * 9000), ()),
    (ErrorCode.MEDIA_TYPE_UNSUPPORTED, post("/v1/resolve"), (b"{}",)),
    (ErrorCode.MEDIA_TYPE_UNSUPPORTED, post("/v1/resolve", DNS), (RAW,)),
    (ErrorCode.BODY_MALFORMED, post("/v1/resolve", JSON), (b"{",)),
    (ErrorCode.BODY_MALFORMED, post("/v1/resolve", JSON), (b"",)),
    (ErrorCode.BODY_MALFORMED, post("/v1/resolve", JSON), (b'{"names": "a"}',)),
    (ErrorCode.BODY_MALFORMED, post("/v1/resolve", JSON), (b"[" * 10_000,)),
    (ErrorCode.BODY_MALFORMED, post("/v1/resolve", JSON), (b'{"names": ["\xff"]}',)),
    (ErrorCode.NAME_MISSING, post("/v1/resolve", JSON), (b'{"names": []}',)),
    (ErrorCode.BODY_TOO_LARGE, post("/v1/resolve", JSON, ("content-length", "99999")), ()),
    (ErrorCode.BODY_TOO_LARGE, post("/v1/resolve", JSON), (b" " * 9000, b" " * 9000)),
    (ErrorCode.METHOD_NOT_ALLOWED, Request("/v1/resolve", method="DELETE"), ()),
    (ErrorCode.METHOD_NOT_ALLOWED, Request("/dns-query", method="PUT"), ()),
    (ErrorCode.METHOD_NOT_ALLOWED, Request("/healthz", method="POST"), ()),
    (ErrorCode.PATH_UNKNOWN, get("/v1/resolver"), ()),
    (ErrorCode.PATH_UNKNOWN, get("/dns-query/"), ()),
    (ErrorCode.DNS_MALFORMED, get("/dns-query"), ()),
    (ErrorCode.DNS_MALFORMED, get("/dns-query", "dns="), ()),
    (ErrorCode.DNS_MALFORMED, get("/dns-query", "dns=A"), ()),
    (ErrorCode.DNS_MALFORMED, get("/dns-query", "dns=AAAA%2B%2F"), ()),
    (ErrorCode.DNS_MALFORMED, get("/dns-query", "dns=AAAA"), ()),
    (ErrorCode.DNS_MALFORMED, get("/dns-query", f"dns={TEXT}&dns={TEXT}"), ()),
    (ErrorCode.QUERY_MALFORMED, get("/dns-query", "&".join(["x=y"] * 200)), ()),
    (ErrorCode.QUERY_TOO_LONG, get("/dns-query", "dns=" + "A" * 9000), ()),
    (ErrorCode.BODY_TOO_LARGE, get("/dns-query", "dns=" + "A" * 6000), ()),
    (ErrorCode.DNS_MALFORMED, post("/dns-query", DNS), (b"",)),
    (ErrorCode.DNS_MALFORMED, post("/dns-query", DNS), (RAW[:11],)),
    (ErrorCode.DNS_MALFORMED, post("/dns-query", DNS), (RESPONSE,)),
    (ErrorCode.MEDIA_TYPE_UNSUPPORTED, post("/dns-query", JSON), (RAW,)),
    (ErrorCode.BODY_TOO_LARGE, post("/dns-query", DNS), (b"\0" * 5000,)),
]


@pytest.mark.parametrize(("code", "request_", "body"), BAD)
def test_bad_input_is_refused_by_the_table_and_counted_by_name(
    code: ErrorCode, request_: Request, body: tuple[bytes, ...]
) -> None:
    site = Site()

    wire = site.ask(request_, *body)

    assert wire.status == ERRORS[code].status
    assert wire.json()["code"] == code
    assert wire.json()["mend"] == ERRORS[code].mend
    assert wire.headers["cache-control"] == "no-store"
    assert site.counted() == {code: 1}


def test_every_error_of_a_request_has_a_bad_input_case_or_a_test_of_its_own() -> None:
    covered = {code for code, _, _ in BAD} | {ErrorCode.BODY_TOO_LATE, ErrorCode.INTERNAL}

    assert covered == {code for code, kind in ERRORS.items() if kind.status != 200}


def test_every_error_code_is_in_the_table_and_every_refusal_is_an_outcome() -> None:
    assert set(ERRORS) == set(ErrorCode)
    assert {Outcome(code.value) for code, kind in ERRORS.items() if kind.status != 200}


def test_the_allowed_methods_are_told() -> None:
    wire = Site().ask(Request("/dns-query", method="PUT"))

    assert wire.headers["allow"] == "GET, HEAD, POST"


def test_get_and_post_give_the_same_reply() -> None:
    asked = Site().ask(get("/v1/resolve", "name=ns1.example.com&type=A"))
    posted = Site().ask(
        post("/v1/resolve", JSON), b'{"names": ["ns1.example.com"], ', b'"types": ["a"]}'
    )

    assert asked.status == 200
    assert asked.body == posted.body
    assert asked.headers["cache-control"] == "private, max-age=3600"


def test_many_names_come_back_in_order_each_once() -> None:
    site = Site()

    wire = site.ask(get("/v1/resolve", "name=www.example.com&name=x.org&name=www.example.com"))

    assert [name["name"] for name in wire.json()["names"]] == ["www.example.com", "x.org"]
    assert wire.headers["cache-control"] == "no-store"
    assert site.counted() == {Outcome.RESOLVED_PARTLY: 1}


def test_unknown_parameters_and_members_are_ignored() -> None:
    asked = Site().ask(get("/v1/resolve", "name=www.example.com&sdk=9&type="))
    posted = Site().ask(post("/v1/resolve", JSON), b'{"names": ["www.example.com"], "sdk": 9}')

    assert asked.status == posted.status == 200


def test_a_trusted_caller_speaks_for_its_client() -> None:
    site = Site(trusted=["198.51.100.0/24"])

    wire = site.ask(get("/v1/resolve", "name=www.example.com&client=198.51.100.200&type=A"))

    assert wire.json()["client"] == "198.51.100.200"
    assert wire.json()["names"][0]["addresses"] == {"A": ["203.0.113.10"]}


def test_forwarded_headers_of_a_trusted_caller_steer_dns_messages_too() -> None:
    site = Site(trusted=["198.51.100.7/32"])
    forwarded = ("x-forwarded-for", "198.51.100.200")

    wire = site.ask(get("/dns-query", f"dns={TEXT}", headers=[forwarded]))

    answer = dns.message.from_wire(wire.body).answer[0]
    assert [str(record) for record in answer] == ["203.0.113.10"]


@pytest.mark.parametrize("text", [TEXT, TEXT + "=" * (-len(TEXT) % 4), f"{TEXT}&ct=x"])
def test_a_dns_message_by_get_is_answered_with_its_freshness(text: str) -> None:
    site = Site()

    wire = site.ask(get("/dns-query", f"dns={text}"))

    assert wire.status == 200
    assert wire.headers["content-type"] == "application/dns-message"
    assert wire.headers["cache-control"] == "private, max-age=30"
    assert dns.message.from_wire(wire.body).id == 0
    assert site.counted() == {Outcome.DNS_ANSWERED: 1}


def test_a_dns_message_by_post_is_answered_whatever_the_rcode() -> None:
    raw = dns.message.make_query("www.example.org.", "A").to_wire()

    wire = Site().ask(post("/dns-query", ("content-type", "Application/DNS-message;x=y")), raw)

    assert wire.status == 200
    assert dns.message.from_wire(wire.body).rcode() == dns.rcode.REFUSED
    assert wire.headers["cache-control"] == "no-store"


def test_a_garbled_dns_message_is_answered_with_formerr() -> None:
    wire = Site().ask(post("/dns-query", DNS), RAW[:20])

    assert wire.status == 200
    assert wire.body[3] & 15 == 1


def test_head_gives_the_headers_of_get_and_no_body() -> None:
    asked = Site().ask(get("/healthz"))
    headed = Site().ask(Request("/healthz", method="HEAD"))

    assert headed.body == b""
    assert headed.headers["content-length"] == str(len(asked.body))


def test_a_caller_that_leaves_in_the_middle_is_counted() -> None:
    site = Site()

    site.ask(post("/v1/resolve", JSON), b'{"na', None)

    assert site.counted() == {Outcome.CLIENT_GONE: 1}


def test_a_body_that_does_not_come_is_given_up() -> None:
    site = Site()

    wire = site.ask(post("/v1/resolve", JSON), b'{"na', stalls=True)

    assert wire.status == 408
    assert site.counted() == {Outcome.BODY_TOO_LATE: 1}


def test_a_fault_of_ours_is_a_500_by_the_table_and_ends_nothing() -> None:
    site = Site()

    broken = site.ask(Request("/v1/resolve", "name=a", client="not an address"))

    assert broken.status == 500
    assert broken.json()["code"] == ErrorCode.INTERNAL
    assert site.ask(get("/healthz")).status == 200


def test_health_and_index_tell_what_they_promise() -> None:
    health = Site().ask(get("/healthz")).json()
    index = Site().ask(get("/")).json()

    assert health == {"status": "ok", "generation": 0, "store": "ok", "schema": "waypost/health/1"}
    assert index["paths"] == ["/v1/resolve", "/dns-query", "/openapi.json", "/healthz"]


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """Where a value does not fit a JSON schema (as far as our document uses it)."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return fits(value, root["components"]["schemas"][name], root, at)
    if "anyOf" in schema:
        tries = [fits(value, option, root, at) for option in schema["anyOf"]]
        return [] if any(not one for one in tries) else tries[0]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{at}: {value!r} is not in the enum"]
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [f"{at}: not {schema['type']}"]
    found: list[str] = []
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        found += [f"{at}.{key}: not documented" for key in value if key not in known]
        found += [f"{at}.{key}: missing" for key in schema.get("required", []) if key not in value]
        for key in value.keys() & known.keys():
            found += fits(value[key], known[key], root, f"{at}.{key}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += fits(item, schema.get("items", {}), root, f"{at}[{number}]")
    return found


def documented(request_: Request, wire: Wire) -> list[str]:
    """Where a real response departs from the document."""
    root = json.loads(json.dumps(document("1.2.3")))
    method = "get" if request_.method == "HEAD" else request_.method.lower()
    response = root["paths"][request_.path][method]["responses"].get(str(wire.status))
    if response is None:
        return [f"{wire.status} is not documented"]
    media = response["content"].get(wire.headers["content-type"])
    if media is None:
        return [f"{wire.headers['content-type']} is not documented"]
    return fits(wire.json(), media["schema"], root) if "schema" in media else []


GOOD = [
    (get("/v1/resolve", "name=www.example.com&name=cdn.example.com&name=x.org"), ()),
    (post("/v1/resolve", JSON), (b'{"names": ["www.example.com", "nope.example.com"]}',)),
    (get("/dns-query", f"dns={TEXT}"), ()),
    (post("/dns-query", DNS), (RAW,)),
    (get("/healthz"), ()),
    (get("/"), ()),
    (get("/openapi.json"), ()),
]


def test_the_openapi_document_is_true_of_every_good_reply() -> None:
    for request_, body in GOOD:
        assert documented(request_, Site().ask(request_, *body)) == []


def test_the_openapi_document_is_true_of_every_refusal_on_a_documented_method() -> None:
    paths = document("1.2.3")["paths"]
    assert isinstance(paths, dict)
    checked = 0
    for code, request_, body in BAD:
        if code in {ErrorCode.PATH_UNKNOWN, ErrorCode.METHOD_NOT_ALLOWED}:
            continue
        wire = Site().ask(request_, *body)
        root = json.loads(json.dumps(paths))
        told = root[request_.path][request_.method.lower()]["responses"][str(wire.status)]
        assert documented(request_, wire) == []
        assert code in told["description"]
        checked += 1
    assert checked > 20


def test_the_openapi_document_names_every_path_that_is_served() -> None:
    served = {*Site().ask(get("/")).json()["paths"], "/"}

    assert set(Site().ask(get("/openapi.json")).json()["paths"]) == served


def test_a_checker_that_would_pass_anything_is_not_what_checks_the_document() -> None:
    root = json.loads(json.dumps(document("1.2.3")))
    schema = {"$ref": "#/components/schemas/ResolveReply"}

    assert fits({"generation": "x"}, schema, root)
    assert fits({"generation": 1, "client": "a", "names": [], "extra": 1}, schema, root)


def test_the_protocol_page_lists_the_error_table_as_it_is() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "protocol-https.md"
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| (\d+|in a name) \| (.+?) \| (.+?) \|$", page.read_text(), re.MULTILINE
    )

    told = {code: (status, meaning, mend) for code, status, meaning, mend in rows}
    assert told == {
        code.value: (
            "in a name" if kind.status == 200 else str(kind.status),
            kind.meaning,
            kind.mend,
        )
        for code, kind in ERRORS.items()
    }
