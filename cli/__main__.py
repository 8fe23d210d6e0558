"""The `tieout` command from its first moment: Ctrl-C while its modules are imported ends it, without a traceback.

Belongs here: that, and nothing else. Does not belong here: the command (`cli/app.py`).
"""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command and run it; until it runs nothing has begun, so that an interrupt just ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli.app import main as command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
