"""supervisord as it is, but that it and its workers outlive a full disk.

By itself it ends when neither its log nor its standard error can be written, and with it all workers, also the one that
tells people. Belongs here: that. Does not belong here: its configuration, and talking to it
(`stack/processes/supervision.py`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from supervisor import loggers, supervisord

_roll_over = loggers.RotatingFileHandler.doRollover


def _say_nothing(_handler: Any) -> None:
    """Drop a line that could not be written: to say so needs the same disk."""


def _roll_over_if_possible(handler: Any) -> None:
    """Begin a new file when the log is long; go on with the old one where that fails."""
    try:
        _roll_over(handler)
    except (OSError, ValueError):  # the latter: the old file could not even be closed, and counts as closed since
        with suppress(OSError):
            handler.stream = open(handler.baseFilename, "ab")  # noqa: SIM115


def main() -> None:
    """Be supervisord."""
    loggers.Handler.handleError = _say_nothing
    loggers.RotatingFileHandler.doRollover = _roll_over_if_possible
    supervisord.main()


if __name__ == "__main__":
    main()
