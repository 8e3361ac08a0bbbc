"""The verb completion: what a shell needs to complete commands, options and file names."""

from __future__ import annotations

import argparse
import sys

from agent.verbs.options import Verb, option

_FILES = frozenset({"CFG", "M.onnx", "MODEL", "FILE"})
_FOLDERS = frozenset({"DIR"})
"""The metavars of options that take a file or a folder."""


def _completion(options: argparse.Namespace) -> int:
    import shtab

    from agent.verbs import VERBS
    from agent.verbs.parser import command_line

    parser, by_name = command_line(VERBS)
    for verb in by_name.values():
        for action in verb._actions:
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar in _FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(parser, shell=options.shell))
    return 0


COMPLETION = (
    Verb(
        name="completion",
        summary="print what bash, zsh or tcsh need to complete commands and options",
        run=_completion,
        options=(option("shell", choices=("bash", "zsh", "tcsh"), help="the shell"),),
        example='eval "$(quantd completion bash)"',
    ),
)
