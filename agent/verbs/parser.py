"""The parser of the command line; wrong usage is a ConfigError with what was probably meant."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import agent
from agent.core.errors import ConfigError, suggestion
from agent.verbs.options import Verb

_EPILOG = """\
start here:
  quantd demo                                  the whole job on this machine, nothing to configure
  quantd optimize MODEL.onnx --camera URI      one run in the foreground, nothing to configure
  quantd init MODEL.onnx --camera URI          look into the model, write a short quantd.toml
  quantd check-config -c quantd.toml           what a configuration means, and what is wrong with it
  quantd optimize -c quantd.toml               one run in the foreground, as configured
  quantd run -c quantd.toml                    the daemon

exit codes: 0 done, 1 failed, 2 usage or bad configuration, 3 no feasible candidate,
4 rolled back or refused by the health check
"""


class Parser(argparse.ArgumentParser):
    """Raises wrong usage as a ConfigError, so that `--json` reports it too."""

    def error(self, message: str) -> NoReturn:
        """Print the usage; raise the error."""
        self.refuse(message)

    def refuse(self, message: str, near: str = "") -> NoReturn:
        """Print the usage; raise the error, with a suggestion before the hint."""
        self.print_usage(sys.stderr)
        raise ConfigError(
            message, code="usage", hint=f"{near}`{self.prog} --help` lists the options"
        )


def command_line(verbs: Sequence[Verb]) -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of the command line, and that of each verb by its name."""
    parser = Parser(
        prog="quantd",
        description="Find, prove and activate the best engine for your ONNX model on the device "
        "that runs it, with frames of the device's own camera.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"quantd {agent.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    return parser, {verb.name: _added(verb, commands) for verb in verbs}


def _added(verb: Verb, commands: argparse._SubParsersAction[Parser]) -> Parser:
    sub = commands.add_parser(
        verb.name,
        help=verb.summary,
        description=verb.summary[0].upper() + verb.summary[1:] + ".",
        epilog=verb.example and f"example:\n  {verb.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flags, details in verb.options:
        sub.add_argument(*flags, **details)
    sub.add_argument("-v", "--verbose", action="store_true", help="log to stderr")
    sub.set_defaults(verb=verb.run, name=verb.name)
    return sub


def parse(arguments: Sequence[str], verbs: Sequence[Verb]) -> argparse.Namespace:
    """Return the options of a command line.

    Raises:
        ConfigError: "usage"; the hint has the verb or the option that was probably meant.
    """
    parser, by_name = command_line(verbs)
    first = next(iter(arguments), "")
    if first and not first.startswith("-") and first not in by_name:
        parser.refuse(f"no command {first}", suggestion(first, by_name))
    options, unknown = parser.parse_known_args(_with_values(arguments))
    if unknown:
        verb = by_name[options.name]
        flags = [flag for action in verb._actions for flag in action.option_strings]
        wrong = unknown[0].partition("=")[0]
        verb.refuse(f"unknown: {' '.join(unknown)}", suggestion(wrong, flags))
    return options


def _with_values(arguments: Sequence[str]) -> list[str]:
    """Join options and values that begin with a minus, which argparse takes for options: -1..1."""
    joined: list[str] = []
    for one in arguments:
        if re.match(r"-[\d.]", one) and joined and re.fullmatch(r"--[a-z-]+", joined[-1]):
            joined[-1] += f"={one}"
        else:
            joined.append(one)
    return joined
