"""The command `tieout status`: how everything stands, the verdict first.

Belongs here: its options, what is printed, the exit code. Does not belong here: reading the status
(`stack/looking/status.py`), the verdict itself (`stack/looking/verdict.py`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import answers, print_json
from cli.conventions import AsJson
from contracts.clock import utc_now
from stack.composition import session

if TYPE_CHECKING:
    from stack.looking.status import Status

WATCH_SECONDS = 5.0


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command(name="status")(status)


def status(
    as_json: AsJson = False,
    everything: Annotated[bool, typer.Option("--all", help="List consistent comparisons, too.")] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help=f"Look again every {WATCH_SECONDS:g} s until Ctrl-C."),
    ] = False,
    with_passwords: Annotated[
        bool,
        typer.Option("--with-passwords", help="Show the pods' DSNs (of a role that may only read) with passwords."),
    ] = False,
) -> None:
    """Say how everything stands: a verdict, the servers, pods, how far each copy is behind, comparisons, workers.

    Exit code 0: all is well. 1: something is down, or an alarm (a break, a limit that is nearly reached, a copy that is
    too far behind, Dagster's pages that are not ready). 3: nothing runs. A copy that is late is no alarm.

    In JSON: verdict {exit_code, sentence, down[], alarms[]}, servers[] {name, kind, address, holds[], state, reason,
    restarts}, servers_refusal (why ended servers cannot be started again), pages_missing (what keeps Dagster's pages
    from being used), api_url, pods[] {pod, dsn, cut, unpublished_events, oldest_unpublished_seconds, held_by},
    projections[] {name, pod, applied_cut, lag_seconds, lag_events, parked, state}, pairs[] {pair, pod, verdict, cut,
    compared, missing, extra, different, checked_at}, breaks {open, repairing, escalated, accepted}, workers[] {name,
    state, restarts, refusal}.
    """
    from cli.status_view import show_status
    from stack.looking.status import read_status

    values = session.settings_here()

    def look() -> Status:
        return read_status(values, has_passwords=with_passwords)

    if watch:
        raise typer.Exit(_watch(look, is_short=not everything, as_json=as_json))
    seen = look()
    if as_json:
        print_json(seen.as_json())
    else:
        show_status(seen, is_short=not everything)
    raise typer.Exit(seen.verdict.exit_code)


def _watch(look: Callable[[], Status], *, is_short: bool, as_json: bool) -> int:
    """Read and show the status repeatedly until Ctrl-C; return the exit code of the last status."""
    from cli.status_view import show_status

    stop, console = threading.Event(), answers()
    # Ctrl-C takes effect after the present look: its threads query the stores, and must not run when Python exits.
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        while True:
            seen = look()
            if as_json:
                print_json(seen.as_json())
            elif console.is_terminal:
                console.clear()
                show_status(seen, is_short=is_short)
                console.print(f"Looked at {utc_now():%H:%M:%S} UTC, again in {WATCH_SECONDS:g} s; Ctrl-C ends this.")
            else:
                console.print(f"{utc_now():%Y-%m-%d %H:%M:%S} UTC: {seen.verdict.sentence}", markup=False)
            if stop.wait(WATCH_SECONDS):
                return seen.verdict.exit_code
    finally:
        signal.signal(signal.SIGINT, before)
