"""A command whose work runs in a process of its own, with workers. In a module, because processes are spawned."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, cast

from cli.console import print_error
from contracts.errors import StackError
from contracts.settings import Settings
from stack.processes.apart import Say, run_apart
from traffic.children import interrupts_held_back
from traffic.workers import Workers


class _Nowhere:
    """Settings of a system without servers: nothing is asked of its pods."""

    control_dsn = ""

    def pod(self, name: str) -> Any:
        raise LookupError(name)


def _work(settings: Settings, say: Say) -> None:
    with Workers(settings, 2) as workers:
        assert workers._executor is not None
        with interrupts_held_back():
            started = workers._executor.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ())
        if cast("Any", settings).what == "killed":
            # Held back from the first moment: nothing that has run since did it.
            held_back = (started.result(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            assert all(signal.SIGINT in mask for mask in held_back)
        say("begun")
        if cast("Any", settings).what == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait(60)


def main() -> int:
    settings = _Nowhere()
    settings.what = sys.argv[1]  # type: ignore[attr-defined]
    try:
        run_apart(_work, cast("Settings", settings), lambda said: print(said, flush=True))
    except StackError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
