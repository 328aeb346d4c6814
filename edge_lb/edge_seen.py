"""The edge's routes that show single packets: a capture of those that pass.

Owns the reading of their parameters and who has which index now. Called by `edge_lb.edge_admin`;
changes nothing but the sampler's setting.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from bpf.errors import BpfError
from edge_lb.agent import EdgeAgent
from edge_lb.capture import ANY_VERDICT, ANY_VIP, Capture, CaptureBusyError, Names, Wish
from edge_lb.datapath import Datapath
from edge_lb.edge_views import distribution_version
from gslb.fleet.config import nearest
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


def _number(params: Mapping[str, str], name: str, otherwise: float, most: float) -> float:
    try:
        value = float(params.get(name, otherwise))
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        text = f"{name}: `{params[name]}` is not a number up to {most:g}"
        raise AdminRefusal(ExitCode.USAGE, text)
    return value
