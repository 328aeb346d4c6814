"""`waypost completion` and `waypost version`."""

from __future__ import annotations

import importlib.metadata

import click
from click.shell_completion import get_completion_class

from gslb.fleet.views import View
from gslb.service.lifecycle import ExitCode, Refused
from ops.cli.seat import seat, shared_options


class Version(View, frozen=True):
    """What is installed here."""

    version: str
    schema: str = "waypost/version/1"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    Use it like: eval "$(waypost completion bash)"
    """
    found = get_completion_class(shell)
    if found is None:
        raise Refused(ExitCode.UNSUPPORTED, f"no completion for {shell}; use bash, zsh or fish")
    root = click.get_current_context().find_root().command
    seat().say(found(root, {}, "waypost", "_WAYPOST_COMPLETE").source() + "\n")


@click.command()
@shared_options
def version() -> None:
    """Show the version of this command."""
    here = seat()
    number = installed_version()
    if here.json:
        here.say_json(Version(version=number))
    else:
        here.say(f"waypost {number}\n")


def installed_version() -> str:
    """The installed distribution's version; a bare checkout has none."""
    try:
        return importlib.metadata.version("waypost")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
