"""The edge's routes that show single packets: a capture of those that pass, a trace of one told.

Owns the reading of their parameters and who has which index now. Called by `edge_lb.edge_admin`;
changes nothing but the sampler's setting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from bpf.errors import BpfError
from bpf.packets import TCP, UDP
from bpf.program import interface_index, interface_name
from edge_lb.agent import EdgeAgent
from edge_lb.capture import ANY_VERDICT, ANY_VIP, Capture, CaptureBusyError, Names, Wish
from edge_lb.datapath import Datapath
from edge_lb.edge_views import distribution_version, fd_fact
from edge_lb.flow import Flow
from edge_lb.layers import chain_in, decode
from edge_lb.trace import FRAME_MAX_BYTES, Described, Traced, header_bytes, trace
from gslb.fleet import views
from gslb.fleet.config import nearest
from gslb.fleet.config_rules import parse_address
from gslb.fleet.host import split_listen
from gslb.service.admin import AdminRefusal
from gslb.service.lifecycle import ExitCode

COUNT_MAX = 1_000_000
EVERY_MAX = 1_000_000_000
SECONDS_MAX = 3600.0


class EdgeSeen:
    """Single packets of one edge."""

    def __init__(self, agent: EdgeAgent, datapath: Datapath, *, interface: str) -> None:
        self._agent = agent
        self._datapath = datapath
        self._interface = interface
        self._capture = Capture(lambda: datapath.program, self._names, interface=interface)

    async def capture(self, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """POST /capture {every, count, seconds, verdict, vip}: pcapng until it is enough."""
        wish = self._wish(params)
        try:
            async with aclosing(
                self._capture.run(wish, f"waypost {distribution_version()}")
            ) as pieces:
                async for piece in pieces:
                    yield piece
        except CaptureBusyError as error:
            raise AdminRefusal(ExitCode.RUNNING, str(error)) from None
        except BpfError as error:
            raise AdminRefusal(ExitCode.FAILED, str(error)) from None

    async def trace(self, params: Mapping[str, str]) -> views.Trace:
        """GET /trace?from=ADDRESS:PORT&to=ADDRESS:PORT[&protocol=udp][&syn=1][&size=N]"""
        described = _described(params)
        ifindex = interface_index(self._interface)
        try:
            seen = await asyncio.to_thread(trace, self._datapath, described, ifindex=ifindex)
        except BpfError as error:
            raise AdminRefusal(ExitCode.FAILED, str(error)) from None
        names, leaves = self._names(), not seen.verdict.startswith(("PASSED_", "DROPPED_"))
        layers = decode(seen.frame)
        planned = self._agent.plan.reals if self._agent.plan is not None else ()
        at = {
            str(one.address): one.name.partition("/")[2]
            for one in planned
            if one.name.startswith(f"{names.vips.get(seen.vip, '')}/")
        }
        real = next((real for real in planned if real.index == seen.real), None)
        return views.Trace(
            client=params["from"],
            destination=params["to"],
            protocol="tcp" if described.flow.protocol == TCP else "udp",
            interface=self._interface,
            verdict=seen.verdict,
            action=seen.action,
            filter=self._judged_by(described, seen),
            vip=names.vips.get(seen.vip, ""),
            remembered_real=names.reals.get(seen.remembered_real, ""),
            slot=seen.slot,
            ring_real=names.reals.get(seen.ring_real, ""),
            earlier=tuple(names.reals.get(index, str(index)) for index in seen.earlier),
            real=names.reals.get(seen.real, ""),
            candidates=tuple(at.get(address, address) for address in chain_in(layers)),
            real_address=str(real.address) if real is not None else "",
            real_state=real.state.name if real is not None else "",
            encap=real.encap if real is not None else "",
            next_hop=layers[0].fields["destination"] if leaves else "",
            out_interface=interface_name(seen.out_ifindex or ifindex) if leaves else "",
            bytes=len(seen.frame),
            layers=tuple(views.LayerRow(name=one.name, fields=one.fields) for one in layers),
            program_tag=fd_fact(self._datapath.program.fd, "prog_tag"),
        )

    def _judged_by(self, described: Described, seen: Traced) -> tuple[str, ...]:
        """The filter's rules, which are asked only of what is for a VIP's address."""
        if seen.verdict.startswith("PASSED_"):
            return ()
        vip = seen.vip if seen.vip != ANY_VIP else None
        rules = self._agent.filter.deciding(described.flow.client, vip)
        return tuple(f"{rule.name}: {rule.action} {rule.prefix}" for rule in rules)

    def _wish(self, params: Mapping[str, str]) -> Wish:
        verdict, vip = params.get("verdict", ""), params.get("vip", "")
        verdicts = self._datapath.program.verdict_names()
        if verdict and verdict not in verdicts:
            text = f"no verdict `{verdict}`; {nearest(verdict, verdicts)}"
            raise AdminRefusal(ExitCode.USAGE, text)
        seats = self._agent.seats.vips
        if vip and vip not in seats:
            raise AdminRefusal(ExitCode.USAGE, f"no VIP `{vip}` here; {nearest(vip, seats)}")
        return Wish(
            every=int(_number(params, "every", 1, EVERY_MAX)),
            count=int(_number(params, "count", 1000, COUNT_MAX)),
            seconds=_number(params, "seconds", 10.0, SECONDS_MAX),
            verdict=verdict or ANY_VERDICT,
            vip=seats[vip] if vip else ANY_VIP,
        )

    def _names(self) -> Names:
        seats = self._agent.seats
        return Names(
            vips={index: name for name, index in seats.vips.items()},
            reals={seat.index: name.partition("/")[2] for name, seat in seats.reals.items()},
        )


def _described(params: Mapping[str, str]) -> Described:
    """The packet that is asked about; AdminRefusal names what is wrong with it."""
    try:
        client, client_port = split_listen(params.get("from", ""))
        vip, vip_port = split_listen(params.get("to", ""))
        size = int(params.get("size") or 0)
        flow = Flow(
            client=parse_address(client),
            client_port=client_port,
            vip=parse_address(vip),
            vip_port=vip_port,
            protocol={"tcp": TCP, "udp": UDP}[params.get("protocol", "tcp")],
        )
    except ValueError as error:
        raise AdminRefusal(ExitCode.USAGE, f"trace: {error}") from None
    except KeyError as error:
        raise AdminRefusal(ExitCode.USAGE, f"trace: no protocol {error}; tcp or udp") from None
    if flow.client.version != flow.vip.version:
        raise AdminRefusal(ExitCode.USAGE, "trace: one address is IPv4, the other IPv6")
    least = header_bytes(flow)
    if size and not least <= size <= FRAME_MAX_BYTES:
        text = f"trace: size {size} is not between {least} and {FRAME_MAX_BYTES} bytes"
        raise AdminRefusal(ExitCode.USAGE, text)
    syn = params.get("syn", "") in {"1", "true", "yes"}
    if syn and flow.protocol != TCP:
        raise AdminRefusal(ExitCode.USAGE, "trace: only TCP has a SYN")
    return Described(flow=flow, syn=syn, size=size)


def _number(params: Mapping[str, str], name: str, otherwise: float, most: float) -> float:
    try:
        value = float(params.get(name, otherwise))
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        text = f"{name}: `{params[name]}` is not a number up to {most:g}"
        raise AdminRefusal(ExitCode.USAGE, text)
    return value
