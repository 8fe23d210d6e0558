"""The entry point of the `tieout` command: Ctrl-C while modules are imported ends the process without a traceback.

Belongs here: the handling of Ctrl-C during the imports. Does not belong here: the command (`cli/app.py`).
"""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command and run it. An interrupt during the import just ends the process: no work has begun."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli.app import main as command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
