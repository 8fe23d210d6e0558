"""Findings in the story of an order: where a store differs from the owner, and which events wait on their way.

Belongs here: pure functions that judge the rows. Does not belong here: reading them (`stack/looking/story/reads.py`),
and the verdict on a store, which only a comparison at a cut gives. Here we read the stores one after the other, so a
difference may only be a lag.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from contracts.events import STATE_TYPES
from contracts.money import amount_name, in_major_units
from derived.read_models.known import roots_from

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]

TYPES = {
    "orders": "order",
    "payments": "payment",
    "refunds": "refund",
    "gift_cards": "gift_card",
    "reservations": "reservation",
}
"""The type of the aggregates in a table of OLTP; the mart of the same name has a row for each, too."""
COMPARED = ("status", "currency", "order_number")
"""Columns, besides amounts, that we compare when both rows have them."""


def findings(tables: Mapping[str, Tables]) -> list[str]:
    """Return the findings, a sentence each. `tables` has the rows by table of every store that answered."""
    return [*_breaks(tables), *_sightings(tables), *_parked(tables), *_events(tables), *_copies(tables)]


def _breaks(tables: Mapping[str, Tables]) -> Iterator[str]:
    for row in tables.get("breaks", {}).get("breaks", ()):
        if row["ended_at"] is None:
            yield (
                f"Break {row['break_id']} is {row['state']} ({row['pair']}: {row['entity']}, {row['kind']}), "
                f"looked after by {row['owner']}."
            )


def _sightings(tables: Mapping[str, Tables]) -> Iterator[str]:
    for row in tables.get("witnesses", {}).get("sightings", ()):
        if row["compared_at"] is None:
            yield f"Seen in {row['place']} by the witness {row['witness']}, and not compared since: {row['what']}"


def _parked(tables: Mapping[str, Tables]) -> Iterator[str]:
    waiting = [("lake", row) for row in tables.get("lake", {}).get("parked", ())]
    waiting += [(row["projection"], row) for row in tables.get("read models", {}).get("parked_events", ())]
    for copy, row in waiting:
        yield f"Event {row['event_id']} of {row['aggregate_key']} is parked on its way to {copy}: {row['error']}"


def _events(tables: Mapping[str, Tables]) -> Iterator[str]:
    is_lake_read = "lake" in tables
    for row in tables.get("events", {}).get("events", ()):
        name = f"{row['event_type']} (version {row['aggregate_version']} of {row['aggregate_id']})"
        if row["cut"] is None:
            yield f"{name} is in no cut yet: the relay has not seen it."
        elif is_lake_read and row["lake"] == "not there":
            yield f"{name} is in cut {row['cut']} and not in the lake."
        elif row["lake"].endswith("times"):
            yield f"{name} is in the lake {row['lake']}."
        if row.get("log") == "in no entry of its cut":
            yield f"{name} is in cut {row['cut']}, and no entry of the log has it."


def _copies(tables: Mapping[str, Tables]) -> Iterator[str]:
    if "OLTP" not in tables:
        return
    for name, aggregate_type in TYPES.items():
        key = STATE_TYPES[aggregate_type].ID_FIELD
        owned = {str(row[key]): row for row in tables["OLTP"].get(name, ())}
        views = [("read models", root.table, root.needed) for root in roots_from(aggregate_type)]
        for store, copy, needed in (("warehouse", name, ()), *views):
            # We skip a store that did not answer or was never built.
            if copy in tables.get(store, {}):
                wanted = {one for one, row in owned.items() if all(row.get(field) is not None for field in needed)}
                copied = {str(row[key]): row for row in tables[store][copy]}
                yield from _differences(name, owned, wanted, copy, copied)


def _differences(
    name: str, owned: Mapping[str, Row], wanted: Collection[str], copy: str, copied: Mapping[str, Row]
) -> Iterator[str]:
    for key, row in owned.items():
        other = copied.get(key)
        if other is None and key in wanted:
            yield f"{copy} has no row of {name} {key}."
        elif other is not None and other["version"] != row["version"]:
            yield f"{copy} has version {other['version']} of {name} {key}, OLTP has version {row['version']}."
        elif other is not None:
            for column in _shared(row, other):
                if row[column] != other[column]:
                    said, owned_value = (_valued(column, one) for one in (other, row))
                    yield f"{copy} says {amount_name(column)} {said} of {name} {key}, OLTP says {owned_value}."
    for key in copied:
        if key not in owned:
            yield f"{copy} has {name} {key}, and OLTP does not."


def _valued(column: str, row: Row) -> str:
    return in_major_units(column, row[column], row.get("currency")) or str(row[column])


def _shared(row: Row, other: Row) -> list[str]:
    return [column for column in row if column in other and (column in COMPARED or column.endswith("_minor"))]
