"""Commands on breaks, for finance and on-call: what differs, since when, its owner, and people's decisions.

Belongs here: `tieout breaks ...` and what it prints. Does not belong here: accepting (`accepting.py`), the ledger
(`repair/ledger/`), repairs (`tieout repair`), the story of one order (`explain.py`).
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import psycopg
import typer
from rich.markup import escape
from rich.table import Table

from cli.commands import decisions
from cli.commands.explain import explain
from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import AsJson
from cli.saying import is_name, is_reason
from contracts.breaks import ENDED, Break, BreakGroup, BreakState
from contracts.errors import InputError, StackError
from contracts.money import amount_name, in_major_units
from contracts.ownership import copy_named
from contracts.settings import Settings
from contracts.text import counted
from contracts.verdicts import ColumnDifference
from repair import audit, ledger
from stack.composition import session

UNENDED = tuple(state for state in BreakState if state not in ENDED)
AMOUNTS_SHOWN = 2
EXPLAINED = ("order", "payment", "refund", "reservation", "fulfillment")
"""Aggregates that belong to an order."""

BreakIds = Annotated[list[int] | None, typer.Argument(help="Numbers of breaks, as `tieout breaks list` shows them.")]
GroupId = Annotated[int | None, typer.Option("--group", help="All breaks of this incident, instead of single ones.")]
By = Annotated[str | None, typer.Option("--by", callback=is_name, help="Who decides; by default whoever is logged in.")]

commands = typer.Typer(
    no_args_is_help=True,
    help="Keys on which two stores disagree: found by comparisons, kept until a later one finds them in order.",
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for name, command in (
        ("list", list_breaks),
        ("show", show),
        ("assign", assign),
        ("reopen", reopen),
    ):
        commands.command(name)(command)
    decisions.add_commands(commands)
    app.add_typer(commands, name="breaks")
    app.command(name="explain")(explain)


def list_breaks(
    state: Annotated[list[BreakState] | None, typer.Option(help="Only breaks in this state; may be repeated.")] = None,
    pair: Annotated[str | None, typer.Option(help="Only this pair or family of pairs, e.g. oltp_lake.")] = None,
    pod: Annotated[str | None, typer.Option(help="Only this pod, e.g. pod1.")] = None,
    merchant: Annotated[str | None, typer.Option(help="Only this merchant.")] = None,
    group: Annotated[int | None, typer.Option(help="Only this incident.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="List at most so many breaks.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="List also those that have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what differs at present: incidents first, then their breaks, the oldest first.

    Breaks of one comparison, pod and class are one incident. open: found. repairing: a repair is at it. escalated:
    people must decide. accepted: somebody accepted the difference, with a reason. repaired and vanished have ended.
    """
    states = tuple(state) if state else tuple(BreakState) if everything else UNENDED
    chosen: dict[str, Any] = {"states": states, "pair": pair, "pod": pod, "merchant_id": merchant, "group_id": group}
    with open_ledger() as values:
        named = ledger.group_ids(values.control_dsn, **chosen)
        found = _first_breaks(values.control_dsn, chosen, named, limit)
        counts = ledger.count_breaks(values.control_dsn, **chosen)
        incidents = [one for one in ledger.groups(values.control_dsn, unended_only=False) if one.group_id in named]
    if as_json:
        print_json(
            {
                "counts": {one.value: number for one, number in counts.items() if one in states},
                "groups": [_group_json(one) for one in incidents],
                "breaks": [one.as_json() for one in found],
            }
        )
        return
    _show_list(incidents, found, counts)


def _first_breaks(control_dsn: str, chosen: Mapping[str, Any], group_ids: Sequence[int], limit: int) -> list[Break]:
    """Return at most `limit` breaks. If there are more, the incidents get equal shares, so that none hides another."""
    found = ledger.breaks(control_dsn, **chosen, limit=limit)
    if len(found) < limit or len(group_ids) < 2:
        return found
    share = max(1, limit // len(group_ids))
    of_each = [
        ledger.breaks(control_dsn, **{**chosen, "group_id": group_id}, limit=share) for group_id in group_ids[:limit]
    ]
    return [one for group in of_each for one in group]


def _show_list(incidents: Sequence[BreakGroup], found: Sequence[Break], counts: Mapping[BreakState, int]) -> None:
    console = answers()
    if not found:
        console.print("No breaks: everything that was compared agrees, or nothing matches what you asked for.")
        return
    rows = [
        (one.group_id, one.pair, one.pod, one.kind, f"{one.keys:,}", _counted(one.counts), f"{one.opened_at:%F %T}")
        for one in incidents
    ]
    console.print(breaks_table("Incidents", ("Group", "Pair", "Pod", "Class", "Keys", "Breaks", "Since (UTC)"), rows))
    breaks = [
        (
            one.break_id,
            one.group_id,
            one.state,
            one.kind,
            f"{one.entity} {shown_key(one.key)}",
            one.merchant_id or "-",
            amounts_text(one.columns, one.currency) or "-",
            f"{one.first_seen_at:%F %T}",
            one.owner,
        )
        for one in found
    ]
    headings = ("Break", "Group", "State", "Class", "What", "Merchant", "Difference", "Since (UTC)", "Owner")
    console.print(breaks_table("Breaks", headings, breaks))
    total = sum(counts.values())
    rest = f"; {len(found):,} of {total:,} are listed (--limit, --group)" if total > len(found) else ""
    console.print(f"{_counted(counts)}{rest}. `tieout breaks show NUMBER` shows one.")


def show(
    break_id: Annotated[int, typer.Argument(metavar="NUMBER", help="The number of a break.")], as_json: AsJson = False
) -> None:
    """Show one break: what both stores say, since when, everything that happened to it, and where help is."""
    with open_ledger() as values:
        one = ledger.find_break(values.control_dsn, break_id)
        changes = ledger.history(values.control_dsn, break_id)
        incident = ledger.find_group(values.control_dsn, one.group_id)
    if as_json:
        history = [{**vars(change), "at": change.at.isoformat()} for change in changes]
        print_json({**one.as_json(), "group": _group_json(incident), "runbook": _runbook(one.pair), "history": history})
        return
    console = answers()
    console.print(
        f"Break {one.break_id} of incident {one.group_id} ({counted(incident.keys, 'key')}): [bold]{one.state}[/], "
        f"looked after by {escape(one.owner)}.\n"
        f"{one.pair} in {one.pod}: {one.entity} {escape(shown_key(one.key))} differs (class [bold]{one.kind}[/])."
    )
    facts = {"merchant": one.merchant_id, "day": one.day, "currency": one.currency, "aggregate": one.aggregate_key}
    console.print("; ".join(f"{name} {value}" for name, value in facts.items() if value) or "Of no single merchant.")
    console.print(
        f"Seen {counted(one.times_seen, 'time')}, "
        f"first at cut {one.first_seen_cut} ({one.first_seen_at:%F %T} UTC), "
        f"last at cut {one.last_seen_cut} ({one.last_seen_at:%F %T} UTC); repairs tried: {one.repairs}."
    )
    if one.reason:
        console.print(one.reason, markup=False)
    rows = [
        (
            amount_name(item.column),
            _valued(item, item.left, one),
            _valued(item, item.right, one),
            _signed(item, one.currency),
        )
        for item in one.columns
    ]
    if rows:
        console.print(breaks_table("What the stores say", ("Column", *_sides(one.pair), "Difference"), rows))
    past = [
        (f"{change.at:%F %T}", change.from_state or "-", change.to_state, change.by, change.run, change.reason)
        for change in changes
    ]
    console.print(breaks_table("History (UTC)", ("At", "From", "To", "By", "Run", "Why"), past))
    runbook = _runbook(one.pair)
    order = _order_of(one)
    if order:
        console.print(f"`tieout explain {order}` tells the whole story of the order.", markup=False)
    if runbook:
        console.print(f"Runbook: {runbook}")


def assign(
    owner: Annotated[
        str, typer.Option("--to", callback=is_name, help="The person or team that looks after it from now on.")
    ],
    break_ids: BreakIds = None,
    group: GroupId = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Say who looks after breaks, or after a whole incident."""
    _decide(
        lambda dsn, chosen, who: ledger.assign(dsn, owner=owner, by=who, **chosen),
        f"Assigned to {owner}",
        break_ids,
        group,
        by,
        as_json,
    )


def reopen(
    break_ids: BreakIds = None,
    group: GroupId = None,
    reason: Annotated[str, typer.Option(callback=is_reason, help="Why; kept with it.")] = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Take back that breaks were accepted, or give escalated ones to the repairs again."""
    _decide(
        lambda dsn, chosen, who: ledger.reopen(dsn, reason=reason, by=who, **chosen),
        "Opened again",
        break_ids,
        group,
        by,
        as_json,
    )


def _decide(
    change: Callable[[str, dict[str, Any], str], list[int]],
    done: str,
    break_ids: list[int] | None,
    group: int | None,
    by: str | None,
    as_json: bool,
) -> None:
    chosen = chosen_breaks(break_ids, group)
    with open_ledger() as values:
        changed = change(values.control_dsn, chosen, by or getpass.getuser())
    say_done(done, changed, as_json)


def chosen_breaks(break_ids: list[int] | None, group: int | None) -> dict[str, Any]:
    """Return the choice as arguments for the ledger; InputError unless it is either breaks or one incident."""
    if bool(break_ids) == (group is not None):
        raise InputError("Name breaks by their numbers, or one incident with --group.")
    return {"break_ids": break_ids or None, "group_id": group}


def say_done(done: str, changed: Sequence[int], as_json: bool) -> None:
    """Say which breaks were changed."""
    if as_json:
        print_json({"break_ids": changed})
        return
    listed = ", ".join(map(str, changed[:10])) + (", ..." if len(changed) > 10 else "")
    answers().print(f"{done}: {counted(len(changed), 'break')} ({listed}).", markup=False)


@contextmanager
def open_ledger() -> Iterator[Settings]:
    """Yield the settings of running servers, with the ledger migrated; StackError if the database does not answer."""
    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        try:
            # A deployment may be older than the ledger: create its tables.
            ledger.migrate(values.control_dsn)
            audit.migrate(values.control_dsn)
            yield values
        except psycopg.OperationalError as error:
            reason = str(error).strip().partition("\n")[0]
            raise StackError(f"The control database, which holds the breaks, does not answer: {reason}") from None


def amounts_text(columns: Sequence[ColumnDifference], currency: str | None) -> str:
    """Return the first differences of amounts and numbers in words, e.g. ``total +0.01 GBP``."""
    signed = [
        f"{amount_name(item.column)} {_signed(item, currency)}" for item in columns if item.difference is not None
    ]
    more = f" and {len(signed) - AMOUNTS_SHOWN} more" if len(signed) > AMOUNTS_SHOWN else ""
    return ", ".join(signed[:AMOUNTS_SHOWN]) + more or ", ".join(item.column for item in columns[:AMOUNTS_SHOWN])


def shown_key(key: Sequence[str | None]) -> str:
    """Return a key in one line."""
    return " / ".join("-" if part is None else part for part in key)


def _signed(item: ColumnDifference, currency: str | None) -> str:
    if item.difference is None:
        return ""
    amount = in_major_units(item.column, item.difference, currency)
    return f"{item.difference:+,}" if amount is None else f"{'' if item.difference < 0 else '+'}{amount}"


def breaks_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table whose cells are escaped: people wrote these texts, so they must not act as markup."""
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    return table(title, headings, cells, numbers_from=len(headings))


def _valued(item: ColumnDifference, value: object, one: Break) -> str:
    """Return a value for people: amounts in major units of the currency."""
    return in_major_units(item.column, value, one.currency) or ("-" if value is None else str(value))


def _order_of(one: Break) -> str | None:
    """Return the aggregate's id, by which `tieout explain` finds the break's order; None if it belongs to no order."""
    kind, _, identifier = (one.aggregate_key or "").partition("/")[2].partition("/")
    return identifier if kind in EXPLAINED else None


def _counted(counts: Mapping[BreakState, int]) -> str:
    return ", ".join(f"{counts[state]:,} {state}" for state in BreakState if counts.get(state)) or "none"


def _group_json(group: BreakGroup) -> dict[str, Any]:
    counts = {state.value: number for state, number in group.counts.items()}
    return {**vars(group), "opened_at": group.opened_at.isoformat(), "counts": counts, "is_ended": group.is_ended}


def _sides(pair: str) -> tuple[str, str]:
    """Return short names of a pair's two sides."""
    from reconcile.pairs import PAIRS

    found = [one for one in PAIRS if one.name == pair]
    return (found[0].left.partition(":")[0], found[0].right.partition(":")[0]) if found else ("Owner", "Copy")


def _runbook(pair: str) -> str | None:
    from reconcile.pairs import PAIRS

    copies = [one.copy for one in PAIRS if one.name == pair and one.copy]
    return f"docs/{copy_named(copies[0]).runbook}" if copies else None
