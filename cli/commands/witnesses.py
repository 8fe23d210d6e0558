"""`tieout witnesses`: where each witness has looked, when it proved that it sees, and what was seen last.

Belongs here: that answer, for people and for programs. Does not belong here: the witnesses (`witness/`), their health
(`stack/looking/witnesses.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer
from rich.markup import escape

from cli.console import answers, print_json, table
from cli.conventions import FAILED, AsJson
from contracts.sightings import KeptSighting
from reconcile.sightings import newest_sightings
from stack import settings
from stack.looking.witnesses import WitnessStatus, blind, read_witnesses

SHOWN = 20


def add_commands(app: typer.Typer) -> None:
    """Add `tieout witnesses`."""
    app.command()(witnesses)


def witnesses(as_json: AsJson = False) -> None:
    """Say where each witness has looked, when it proved that it sees, and what was seen last.

    A witness reads what its store says of each write, e.g. the write-ahead log, and sees at once who wrote past the
    rules. What it sees is compared next; only a comparison makes a break. Exit code 1 when a witness cannot see.
    """
    values = settings.load_settings()
    found = read_witnesses(values)
    seen = newest_sightings(values.control_dsn, limit=SHOWN)
    if as_json:
        print_json(
            {
                "witnesses": [asdict(one) for one in found],
                "sightings": [sighting_json(one) for one in seen],
            }
        )
    else:
        _show(found, seen)
    if blind(found):
        raise typer.Exit(FAILED)


def sighting_json(sighting: KeptSighting) -> dict[str, Any]:
    """Return a sighting as values that JSON can hold."""
    moments = ("written_at", "seen_at", "compared_at")
    told = {name: moment.isoformat() if (moment := getattr(sighting, name)) else None for name in moments}
    return {**asdict(sighting), **told, "kind": sighting.kind.value}


def _show(found: Sequence[WitnessStatus], seen: Sequence[KeptSighting]) -> None:
    console = answers()
    rows = [
        (one.witness, one.pod, _moment(one.looked_at), _moment(one.proven_at), one.position, escape(one.complaint))
        for one in found
    ]
    if rows:
        headings = ["Witness", "Pod", "Looked (UTC)", "Saw its heartbeat (UTC)", "Position", "Cannot see because"]
        console.print(table("Witnesses", headings, rows, numbers_from=6))
    if not seen:
        console.print("Nothing was seen that broke the rules.")
        return
    shown = [
        (f"{one.seen_at:%Y-%m-%d %H:%M:%S}", one.witness, one.pod, escape(one.what), _compared(one)) for one in seen
    ]
    console.print(table("Seen last", ["Seen (UTC)", "Witness", "Pod", "What", "Compared"], shown, numbers_from=5))


def _moment(text: str | None) -> str:
    return text[:19].replace("T", " ") if text else ""


def _compared(sighting: KeptSighting) -> str:
    if sighting.compared_at is None:
        return "waits"
    return "differs" if sighting.group_ids else "agrees"
