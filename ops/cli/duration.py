"""A duration as an option's value, wherever a command takes one."""

from __future__ import annotations

import re

import click

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[int]):
    """A whole number with its unit: 90s, 30m, 12h, 7d. Becomes seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Seconds, or wrong use."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,9})([smhd])", str(value))
        if found is None:
            self.fail(f"`{value}` is not a duration, like 90s, 30m, 12h or 7d", param, ctx)
        return int(found[1]) * _UNITS_S[found[2]]
