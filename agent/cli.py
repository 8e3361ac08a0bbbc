"""The command line. Results on stdout, everything else on stderr.

Exit codes: 0 done, 1 failed, 2 usage or bad configuration, 3 no feasible candidate, 4 rolled back or
refused by the health check.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence

from agent.core.errors import ConfigError, QuantdError
from agent.core.report.wording import escape_unprintable

_INTERRUPTED = "interrupted: what was changed is undone, by the next command if not by this one"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    # Otherwise ONNX Runtime (from 1.29) stores an identity and sends usage data to its maker.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["job"] and len(arguments) == 2:  # a child process
        from agent.jobs import child as job

        return job.main(arguments[1])
    as_json = "--json" in arguments
    try:
        _check_text(arguments)
        from agent.verbs import VERBS
        from agent.verbs.parser import parse

        options = parse(arguments, VERBS)
        _log_to_stderr(options)
        code: int = options.verb(options)
        sys.stdout.flush()  # a closed pipe raises here, where it is handled
    except QuantdError as error:
        _show(error, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            sys.stderr.write("\n")
            _show(QuantdError(_INTERRUPTED, code="interrupted"), as_json=as_json)
        return 130
    except BrokenPipeError:  # `quantd report | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered is discarded
        return 0
    return code


def _check_text(arguments: Sequence[str]) -> None:
    for one in arguments:
        try:
            one.encode()
        except UnicodeEncodeError as e:
            raise ConfigError(
                f"{one} is not UTF-8 text",
                code="usage",
                hint="rename the file: quantd accepts names in UTF-8 only",
            ) from e


def _log_to_stderr(options: argparse.Namespace) -> None:
    verbose = options.verbose or options.name in {"fleet", "run"}
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    if options.name != "run":  # the daemon handles SIGTERM itself
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _show(error: QuantdError, *, as_json: bool) -> None:
    if as_json:
        body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        sys.stdout.write(json.dumps(body) + "\n")
    sys.stderr.write(f"error: {escape_unprintable(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"hint:  {escape_unprintable(error.hint)}\n")
