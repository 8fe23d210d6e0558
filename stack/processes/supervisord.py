"""supervisord with two changes, so that it and its workers continue to run on a full disk.

The original ends when it can write neither its log nor its standard error. All workers end with it, also the worker
that sends alerts. Belongs here: these changes. Does not belong here: its configuration and its XML-RPC calls
(`stack/processes/supervision.py`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from supervisor import loggers, supervisord

_roll_over = loggers.RotatingFileHandler.doRollover


def _say_nothing(_handler: Any) -> None:
    """Drop a line that could not be written, because an error message would need the same disk."""


def _roll_over_if_possible(handler: Any) -> None:
    """Rotate the log; when that fails, append to the old file."""
    try:
        _roll_over(handler)
    except (OSError, ValueError):  # ValueError: closing the old file failed before, and Python treats it as closed
        with suppress(OSError):
            handler.stream = open(handler.baseFilename, "ab")  # noqa: SIM115


def main() -> None:
    """Run supervisord."""
    loggers.Handler.handleError = _say_nothing
    loggers.RotatingFileHandler.doRollover = _roll_over_if_possible
    supervisord.main()


if __name__ == "__main__":
    main()
