"""Demo steps that ask for a name: by DNS over UDP, TCP and IPv6, by HTTPS, by DNS over HTTPS."""

from __future__ import annotations

import json

from ops.lab import paths
from ops.lab.demo import Shown, Step, demand
from ops.lab.lab import Lab
from ops.lab.topology import DNS_ADDRESS, DNS_ADDRESS_V6, DOMAIN, VIPS

WWW = f"www.{DOMAIN}"
QUERIES = 40
WEB_VIPS = {vip.name: vip.address for vip in VIPS if vip.name.startswith("web-")}
WEB_ADDRESSES = frozenset(WEB_VIPS.values())


def site_addresses(site: str) -> frozenset[str]:
    """The addresses of the pool `web` that one site serves."""
    return frozenset(
        address for name, address in WEB_VIPS.items() if name.startswith(f"web-{site}")
    )


def dig(lab: Lab, *words: str, server: str = DNS_ADDRESS) -> list[str]:
    """`dig +short` in the client's namespace: the answers as lines."""
    done = lab.run("client", "dig", "+short", "+tries=1", "+time=2", f"@{server}", *words)
    demand(done.returncode == 0, f"dig {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout.split()


def subsets(lab: Lab, queries: int = QUERIES) -> list[tuple[str, ...]]:
    """The answers to many queries for the name, in one dig process."""
    words = [word for _ in range(queries) for word in (WWW, "A")]
    batch = ["dig", "+noall", "+answer", "+tries=1", "+time=2", f"@{DNS_ADDRESS}"]
    done = lab.run("client", *batch, *words)
    demand(done.returncode == 0, f"dig: {done.stdout}{done.stderr}")
    answers = [line.split()[-1] for line in done.stdout.splitlines() if f"{WWW}." in line]
    demand(len(answers) % queries == 0, f"{len(answers)} addresses for {queries} queries")
    size = len(answers) // queries
    return [tuple(answers[i : i + size]) for i in range(0, len(answers), size)] if size else []


def answered(lab: Lab, queries: int = QUERIES) -> frozenset[str]:
    """Every address that many queries brought."""
    return frozenset(address for subset in subsets(lab, queries) for address in subset)


def _shuffled(lab: Lab) -> Shown:
    seen = subsets(lab)
    demand(all(len(set(subset)) == 2 for subset in seen), f"not 2 of 6 addresses: {seen}")
    demand(len(set(seen)) > 5, f"only {len(set(seen))} different answers")
    covered = {address for subset in seen for address in subset}
    demand(covered == WEB_ADDRESSES, f"covered {sorted(covered)}, not {sorted(WEB_ADDRESSES)}")
    came = f"{len(seen)} answers of 2 addresses, {len(set(seen))} different, all 6 VIPs covered"
    return Shown(f"dig @{DNS_ADDRESS} {WWW} A   (x {QUERIES})", f"{came}\nfirst: {seen[0]}")


def _tcp_and_v6(lab: Lab) -> Shown:
    tcp = dig(lab, "+tcp", WWW, "A")
    v6 = dig(lab, WWW, "A", server=DNS_ADDRESS_V6)
    for answer in (tcp, v6):
        demand(len(answer) == 2 and set(answer) <= WEB_ADDRESSES, f"came {answer}")
    ran = f"dig +tcp @{DNS_ADDRESS} {WWW} A; dig @{DNS_ADDRESS_V6} {WWW} A"
    return Shown(ran, f"TCP: {tcp}   IPv6: {v6}")


def _nearest(lab: Lab) -> Shown:
    near = f"near.{DOMAIN}"
    here = dig(lab, near, "A")
    demand(set(here) <= site_addresses("fra") and here != [], f"the client is at fra; came {here}")
    done = lab.run("client", "dig", "+subnet=198.18.5.0/24", f"@{DNS_ADDRESS}", near, "A")
    there = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith(near)]
    demand(set(there) <= site_addresses("sin") and there != [], f"198.18.5.0 is at sin: {there}")
    scope = next((line for line in done.stdout.splitlines() if "CLIENT-SUBNET" in line), "")
    demand(scope.endswith("/24/15"), f"the scope is not the /15 that decided: {scope}")
    return Shown(
        f"dig {near}; dig +subnet=198.18.5.0/24 {near}",
        f"from here: {here}   for 198.18.5.0/24: {there}\n{scope.strip()}",
    )


def _authored(lab: Lab) -> Shown:
    static = dig(lab, f"static.{DOMAIN}", "A")
    wild = dig(lab, f"anything.any.{DOMAIN}", "A")
    demand(static == ["192.0.2.80"] and wild == ["192.0.2.81"], f"came {static}, {wild}")
    done = lab.run("client", "dig", f"@{DNS_ADDRESS}", f"nothing.{DOMAIN}", "A")
    demand(
        "NXDOMAIN" in done.stdout and "SOA" in done.stdout, f"no NXDOMAIN with SOA: {done.stdout}"
    )
    return Shown(
        f"dig static.{DOMAIN}; dig anything.any.{DOMAIN}; dig nothing.{DOMAIN}",
        f"authored: {static}   wildcard: {wild}   unknown: NXDOMAIN with SOA",
    )


def curl_resolve(lab: Lab, query: str) -> dict[str, object]:
    """One request of the HTTPS API in the client's namespace: the decoded reply."""
    url = f"https://{DNS_ADDRESS}/v1/resolve?{query}"
    done = lab.run("client", "curl", "-sS", "--max-time", "10", "--cacert", str(paths.CA), url)
    demand(done.returncode == 0, f"curl: {done.stderr}")
    reply: dict[str, object] = json.loads(done.stdout)
    return reply


def _https(lab: Lab) -> Shown:
    reply = curl_resolve(lab, f"name={WWW}&name=static.{DOMAIN}")
    text = json.dumps(reply)
    found = {address for address in WEB_ADDRESSES if f'"{address}"' in text}
    demand(len(found) == 2, f"not 2 of the 6 VIPs: {text}")
    demand("192.0.2.80" in text, f"the authored name is missing: {text}")
    return Shown(
        f"curl --cacert ca.pem 'https://{DNS_ADDRESS}/v1/resolve?name={WWW}&name=static.{DOMAIN}'",
        text if len(text) < 400 else text[:400] + "...",
    )


def _doh(lab: Lab) -> Shown:
    tls = ("+https", f"+tls-ca={paths.CA}", f"+tls-hostname=dns.{DOMAIN}")
    answer = dig(lab, *tls, WWW, "A")
    demand(len(answer) == 2 and set(answer) <= WEB_ADDRESSES, f"came {answer}")
    return Shown(f"dig +https +tls-ca=ca.pem @{DNS_ADDRESS} {WWW} A", f"{answer}")


def _explain(lab: Lab) -> Shown:
    argv = ("waypost", "answer", "explain", f"near.{DOMAIN}", "--client", "203.0.113.10")
    done = lab.run("dns", *argv)
    demand(done.returncode == 0, f"{done.stdout}{done.stderr}")
    demand("web-fra-1" in done.stdout and "web-sin-1" in done.stdout, done.stdout)
    return Shown(" ".join(argv), done.stdout.rstrip())


STEPS = (
    Step("DNS gives shuffled subsets that together cover every VIP", _shuffled),
    Step("DNS over TCP, and over IPv6", _tcp_and_v6),
    Step("the nearest site by the client's address, or by its subnet (ECS) with scope", _nearest),
    Step("authored records: exact, wildcard, NXDOMAIN", _authored),
    Step("the same decision over HTTPS", _https),
    Step("DNS over HTTPS", _doh),
    Step("an answer can say why", _explain),
)
