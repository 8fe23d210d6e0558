"""`tieout explain ORDER`: shows what every store holds of one order, or of one gift card.

Belongs here: the command and its tables. Does not belong here: reading the stores
(`stack/looking/story/collecting.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import AsJson
from contracts.money import amount_name, in_major_units
from contracts.ownership import SERVED_TABLES
from stack.composition import session

if TYPE_CHECKING:
    from stack.looking.story.collecting import Section, Story
    from stack.looking.story.reads import Row

SHOWN = {
    "orders": (
        "order_number",
        "version",
        "status",
        "currency",
        "total_minor",
        "tax_minor",
        "cancelled_minor",
        "open_quantity",
        "cut",
    ),
    "lines": ("line_number", "sku", "quantity", "fulfilled_quantity", "cancelled_quantity"),
    "order_lines": (
        "line_number",
        "kind",
        "sku",
        "quantity",
        "total_minor",
        "cancelled_quantity",
        "fulfilled_quantity",
    ),
    "payments": (
        "payment_id",
        "version",
        "status",
        "currency",
        "authorized_minor",
        "captured_minor",
        "refunded_minor",
        "gift_card_id",
        "method",
        "expires_at",
        "returned_minor",
        "unallocated_minor",
    ),
    "payment_captures": ("payment_capture_id", "payment_id", "amount_minor", "captured_at"),
    "payment_movements": ("payment_movement_id", "payment_id", "kind", "amount_minor", "fee_minor", "moved_at"),
    "refunds": (
        "refund_id",
        "version",
        "status",
        "currency",
        "amount_minor",
        "tax_minor",
        "completed_at",
        "failed_at",
        "gift_card_id",
    ),
    "gift_cards": (
        "gift_card_id",
        "version",
        "status",
        "funding",
        "currency",
        "issued_minor",
        "credited_minor",
        "redeemed_minor",
        "expired_minor",
        "balance_minor",
        "expires_at",
    ),
    "refund_lines": ("refund_line_id", "order_line_id", "quantity", "amount_minor", "status"),
    "reservations": ("reservation_id", "version", "status", "quantity", "held_quantity", "expires_at"),
    "fulfillments": ("fulfillment_id", "order_line_id", "quantity", "tracking_number", "shipped_at"),
    "tax_lines": ("movement", "jurisdiction", "tax_category", "currency", "taxable_minor", "tax_minor", "tax_date"),
    "journal": ("entry_date", "event_type", "aggregate_type", "account", "currency", "amount_micro", "event_id"),
    "events": (
        "event_type",
        "aggregate_version",
        "aggregate_id",
        "cut",
        "position",
        "age_seconds",
        "outbox",
        "log",
        "lake",
    ),
    "sightings": ("seen_at", "witness", "copy", "place", "aggregate_id", "what", "written_at", "compared_at"),
    "breaks": ("break_id", "state", "kind", "pair", "entity", "owner", "first_seen_at", "reason"),
}
"""Columns of each table that people see, if the table has them. A read model's table shows those of the OLTP table that
it copies. JSON has all columns.
"""


def explain(
    order: Annotated[
        str,
        typer.Argument(help="An order's number or id, the id of one of its payments, refunds ..., or a gift card's."),
    ],
    merchant: Annotated[
        str | None, typer.Option(help="Whose order, where several merchants have one of that number.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the story of one order: what every store holds of it, and which breaks and sightings name it.

    OLTP's rows with their versions; every event with its cut, position and age, and whether outbox, log (which stream
    entry) and lake have it; the marts with the journal; what customers and the warehouse see. What stands out comes
    first: breaks, parked events, a copy that says something else. A gift card that paid no order yet has a story of its
    own. Nothing is changed.
    """
    from stack.looking.story.collecting import read_story

    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        story = read_story(values, order, merchant_id=merchant)
    if as_json:
        print_json(story.as_json())
    else:
        show_story(story)


def show_story(story: Story) -> None:
    """Print the story for people; one line per store names the empty tables."""
    console = answers()
    console.print(f"{_called(story)} of merchant {story.merchant_id}, in {story.pod}.", markup=False, style="bold")
    found, silent = story.findings, [section.store for section in story.sections if section.error]
    for sentence in found:
        console.print(f"! {sentence}", markup=False, style="yellow")
    if not found:
        whoever = f" that answered ({', '.join(silent)} did not)" if silent else ""
        console.print(f"Nothing stands out: every store{whoever} says the same.", markup=False)
    currency = _currency_of(story)
    for section in story.sections:
        _show_section(section, currency)


def _called(story: Story) -> str:
    if story.order_id is None:
        return f"Gift card {story.gift_card_id}"
    number = f"{story.order_number} " if story.order_number else ""
    return f"Order {number}({story.order_id})"


def _currency_of(story: Story) -> str | None:
    """Return the currency of the order, because lines and captures have no currency column."""
    rows = (row for section in story.sections for table_rows in section.tables.values() for row in table_rows)
    return next((row["currency"] for row in rows if row.get("currency")), None)


def _show_section(section: Section, currency: str | None) -> None:
    console = answers()
    if section.error:
        console.print(f"{section.store}: does not answer: {section.error}", markup=False, style="red")
        return
    console.print(f"\n{section.store} ({section.stands_at})", markup=False, style="bold")
    for name, rows in section.tables.items():
        if rows:
            columns = _columns(name, rows)
            cells = [[escape(_shown_in(row, column, currency)) for column in columns] for row in rows]
            headings = [amount_name(column).replace("_", " ") for column in columns]
            console.print(table(name, headings, cells, numbers_from=99))
    empty = [name for name, rows in section.tables.items() if not rows]
    if empty:
        console.print(f"Nothing in: {', '.join(empty)}.", markup=False)


def _columns(name: str, rows: Sequence[Row]) -> list[str]:
    # The name of a read model's table is <model>_<OLTP table>.
    of_owner = name.partition("_")[2] if name in SERVED_TABLES else name
    wanted = SHOWN.get(of_owner, tuple(rows[0]))
    return [column for column in wanted if column in rows[0]]


def _shown_in(row: Row, column: str, currency: str | None) -> str:
    """Return a value of a row; amounts in major units of the row's currency, or of the order's if the row has none."""
    return in_major_units(column, row[column], row.get("currency") or currency) or _shown(row[column])


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%F %T}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)
