"""Commands on the schemas of events: list their versions, show changes, and check that readers can read all of them.

Belongs here: `tieout schemas ...` and what it prints. Does not belong here: the rules
(`contracts/events/compatibility.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.console import answers, print_json, table
from cli.conventions import AsJson
from contracts.errors import InputError
from contracts.events import AGGREGATES, STATE_TYPES
from contracts.events.schema_files import all_changes, breaking_sentences, changes_since, committed
from contracts.text import counted, visible

BREAKING = 1


commands = typer.Typer(
    no_args_is_help=True,
    help="Schemas of events: stored ones are never rewritten, so every version that was committed must stay readable.",
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for name, command in (("list", list_schemas), ("check", check), ("diff", diff)):
        commands.command(name=name)(command)
    app.add_typer(commands, name="schemas")


def list_schemas(as_json: AsJson = False) -> None:
    """List the aggregate types: their version, the committed ones, their events, how many fields each state has.

    An earlier version may be retired: then it says until when its events may be written. A build warns of later ones.
    """
    rows: list[dict[str, Any]] = [
        {
            "aggregate_type": state.AGGREGATE_TYPE,
            "version": state.SCHEMA_VERSION,
            "committed": list(committed(state.AGGREGATE_TYPE)),
            "written_until": {str(version): str(until) for version, until in sorted(state.RETIRED.items())},
            "fields": len(state.__struct_fields__),
            "events": [event.value for event in events],
        }
        for state, events in AGGREGATES.items()
    ]
    if as_json:
        print_json(rows)
        return
    shown = [
        (
            str(row["aggregate_type"]),
            str(row["version"]),
            _versions(row),
            str(row["fields"]),
            ", ".join(row["events"]),
        )
        for row in rows
    ]
    answers().print(table("Schemas", ("Aggregate", "Version", "Committed", "Fields", "Events"), shown, numbers_from=9))


def _versions(row: Mapping[str, Any]) -> str:
    """Return the committed versions; for a retired one also the last day on which its events may be written."""
    return ", ".join(
        f"{version} (until {until})" if (until := row["written_until"].get(str(version))) else str(version)
        for version in row["committed"]
    )


def check(as_json: AsJson = False) -> None:
    """Say whether every event that may be stored can be read, under each committed version; exit code 1: not.

    Allowed: a new field with a default, a wider limit, a new enum value that readers were told of. What else is wanted
    is another field, beside the one that stays.
    """
    found = breaking_sentences()
    if as_json:
        print_json({"is_compatible": not found, "breaking": found})
    else:
        for sentence in found:
            answers().print(sentence, markup=False)
        versions = counted(len(all_changes()), "committed version")
        answers().print(f"{versions}: {'not all' if found else 'all'} can be read by the state types as they are now.")
    raise typer.Exit(BREAKING if found else 0)


def diff(
    aggregate_type: Annotated[str, typer.Argument(metavar="TYPE", help=f"{', '.join(STATE_TYPES)}.")],
    as_json: AsJson = False,
) -> None:
    """Show how a state type as it is now differs from each committed version of it."""
    if aggregate_type not in STATE_TYPES:
        raise InputError(f"{visible(aggregate_type)!r} is no aggregate type; there are {', '.join(STATE_TYPES)}.")
    state = STATE_TYPES[aggregate_type]
    found = [
        {"version": version, "place": one.place, "rule": one.rule, "is_breaking": one.is_breaking, "way": one.way}
        for version in committed(aggregate_type)
        for one in changes_since(state, version)
    ]
    if as_json:
        print_json(found)
        return
    if not found:
        answers().print(f"{aggregate_type} is as it was committed.")
        return
    rows = [
        (str(one["version"]), one["place"], "breaks" if one["is_breaking"] else "allowed", one["rule"], one["way"])
        for one in found
    ]
    answers().print(table(aggregate_type, ("Version", "Where", "", "What", "Instead"), rows, numbers_from=9))
