"""Structured logs: logfmt-like on a terminal, JSON lines otherwise. Logs changes, never packets."""

from __future__ import annotations

import logging
import sys

import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def setup(role: str, level: str) -> None:
    """Configure logging of this process to standard error; `role` is bound to every event."""
    human = sys.stderr.isatty()
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(role=role)


def get() -> structlog.typing.FilteringBoundLogger:
    """A logger: `get().info("health.changed", real="web1", state="DOWN")`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
