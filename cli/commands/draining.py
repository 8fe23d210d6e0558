"""The command `tieout drain`: bring every copy up to date once.

Belongs here: what it prints. Does not belong here: publishing and applying (`stack/composition/draining.py`).
"""

from __future__ import annotations

import typer

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import AsJson
from contracts.text import counted
from stack.composition import session


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command()(drain)


def drain(as_json: AsJson = False) -> None:
    """Bring every copy up to date once: publish what is committed, apply it to the lake, the views and the notes.

    Webhooks that are noted are sent by their worker. Not needed while workers run (`tieout up`); they do this all the
    time.
    """
    from stack.composition.draining import drain_everything

    progress = ConsoleProgress()
    with session.open_session(progress) as values, progress.step("Draining") as step:
        drained = drain_everything(
            values, on_drained=lambda what, events: step.say(f"{what}, {counted(events, 'event')}")
        )
        step.conclude(counted(sum(pod.events_published for pod in drained), "event"))
    if as_json:
        print_json([vars(pod) for pod in drained])
        return
    rows = [
        (pod.pod, pod.cut, pod.events_published, *pod.applied.values(), sum(pod.parked.values())) for pod in drained
    ]
    headings = ["Pod", "Cut", "Published", *(name.replace("_", " ").capitalize() for name in drained[0].applied)]
    answers().print(table("Events brought on their way", [*headings, "Parked"], rows))
