"""The story of one order, or of one gift card that no order names: what every store holds of it, event by event, and
which breaks and sightings name it.

Belongs here: finding the order, and combining the stores' answers. A store that does not answer gets a section with its
error. Does not belong here: the reads (`stack/looking/story/reads.py`), tables for people (`cli/commands/explain.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import psycopg

from contracts.clock import Clock, utc_now
from contracts.errors import InputError, NotFoundError, StackError, TieoutError
from contracts.settings import Settings
from reconcile.sightings import sightings_of
from repair import ledger
from stack.looking.story import reads as story_reads
from stack.looking.story.findings import findings
from stack.looking.story.reads import Aggregate, Place, Row
from stack.scrubbing import scrubber

BREAKS_MAX = 200
SIGHTINGS_MAX = 50


@dataclass(frozen=True, kw_only=True)
class Section:
    """The answer of one store: rows by table."""

    store: str
    tables: dict[str, list[Row]] = field(default_factory=dict)
    stands_at: str = ""
    """The cut or time of the rows, in words."""
    error: str = ""
    """Why the store does not answer; empty when it does."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything that the stores hold of one order, or of a gift card that no order names."""

    pod: str
    merchant_id: str
    order_id: str | None
    """None of a gift card."""
    gift_card_id: str | None
    """None of an order."""
    order_number: str | None
    """None when no store that answered has it."""
    sections: tuple[Section, ...]

    @property
    def findings(self) -> list[str]:
        """Differences and waiting events in the stores that answered, a sentence each."""
        return findings({one.store: one.tables for one in self.sections if not one.error})

    def as_json(self) -> dict[str, Any]:
        """Return the story as values that JSON can hold."""
        sections = [{**vars(one), "tables": _plain(one.tables)} for one in self.sections]
        return {**vars(self), "findings": self.findings, "sections": sections}


def read_story(settings: Settings, order: str, *, merchant_id: str | None = None, clock: Clock = utc_now) -> Story:
    """Return the story of the order with this number or id, or of the order of the aggregate with this id.

    A gift card that was neither spent nor credited is of no order; then it is the card's own story.

    Raises NotFoundError when no store has it, InputError when several merchants have an order with that number.
    """
    return _Reader(settings, clock).read(order, merchant_id)


class _Reader:
    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._now = clock()
        self._scrub = scrubber(settings)
        self._sections: list[Section] = []
        self._lake: duckdb.DuckDBPyConnection | None = None
        self._lake_error = ""

    def read(self, order: str, merchant_id: str | None) -> Story:
        self._open_lake()
        try:
            place = self._find(order.strip(), merchant_id)
            return self._story(place)
        finally:
            if self._lake is not None:
                self._lake.close()

    def _story(self, place: Place) -> Story:
        dsn = self._settings.pod(place.pod).reader_dsn
        tables, aggregates = self._asked("OLTP", lambda: story_reads.read_pod(dsn, place), ({}, []))
        cards = sorted({one.id for one in aggregates if one.type == "gift_card"})
        lake_events = self._asked("lake", lambda: story_reads.read_lake_events(self._connected(), place, cards), [])
        everything = self._with_those_of_the_lake(place, aggregates, lake_events)
        keys = [one.key for one in everything]
        outbox = self._asked("outbox", lambda: story_reads.read_outbox(dsn, everything), [])
        events = merged_events(outbox, lake_events, self._now)
        entries = self._asked("log", lambda: story_reads.read_log(self._settings, place.pod, events), {})
        for event in events:
            event["log"] = entries.get(event["event_id"], "in no cut yet" if event["cut"] is None else "-")
        self._add("OLTP", tables, f"pod {place.pod}, now")
        self._add("events", {"events": events}, "outbox, log and lake, now")
        self._add_warehouse(place, cards)
        self._add_views(place, keys)
        parked = self._asked("lake", lambda: story_reads.read_lake_parked(self._connected(), place, keys), [])
        self._add("lake", {"parked": parked}, "now")
        self._add_breaks(keys)
        self._add_sightings([one.id for one in everything])
        return Story(
            pod=place.pod,
            merchant_id=place.merchant_id,
            order_id=place.order_id if place.type == "order" else None,
            gift_card_id=place.order_id if place.type == "gift_card" else None,
            order_number=next((row["order_number"] for row in tables.get("orders", [])), None),
            sections=tuple(self._sections),
        )

    def _find(self, order: str, merchant_id: str | None) -> Place:
        places, silent = [], []
        for pod in self._settings.pods:
            try:
                places += story_reads.find_in_pod(pod.reader_dsn, pod.pod, order, is_id=_is_uuid(order))
            except psycopg.OperationalError:
                silent.append(pod.pod)
        if not places and self._lake is not None:
            places = story_reads.find_in_lake(self._lake, order)
        of_merchant = [place for place in places if merchant_id in (None, place.merchant_id)]
        # Of a merchant that has moved, two pods have the rows: those where it lives come last here, and stay.
        by_order = {place.order_id: place for place in sorted(of_merchant, key=lambda place: place.is_here)}
        found = list(by_order.values())
        merchants = sorted({place.merchant_id for place in found})
        if len(merchants) > 1:
            names = ", ".join(merchants)
            raise InputError(f"Several merchants have an order {order!r}: say which with --merchant ({names}).")
        if len(found) > 1:
            numbers = ", ".join(sorted(place.order_number or place.order_id for place in found))
            raise InputError(f"Gift card {order} is of several orders: say which ({numbers}); each tells its history.")
        if found:
            return found[0]
        whose = f" of merchant {merchant_id}" if merchant_id else ""
        without = f"; {', '.join(silent)} did not answer" if silent else ""
        raise NotFoundError(
            f"There is no order {order!r}{whose}, and no gift card: no pod has it by id or number, "
            f"and the lake has no event of it{without}."
        )

    def _open_lake(self) -> None:
        from derived.lake_connection import open_lake

        try:
            self._lake = open_lake(self._settings, read_only=True)
        except StackError as error:
            self._lake_error = str(error)

    def _connected(self) -> duckdb.DuckDBPyConnection:
        if self._lake is None:
            raise StackError(self._lake_error)
        return self._lake

    def _with_those_of_the_lake(
        self, place: Place, aggregates: Sequence[Aggregate], lake_events: Sequence[Row]
    ) -> list[Aggregate]:
        """Return the aggregates that OLTP or the lake has, the order (or card) itself first."""
        order = Aggregate(merchant_id=place.merchant_id, type=place.type, id=place.order_id)
        others = [
            Aggregate(merchant_id=row["merchant_id"], type=row["aggregate_type"], id=row["aggregate_id"])
            for row in lake_events
        ]
        return list(dict.fromkeys([order, *aggregates, *others]))

    def _add_warehouse(self, place: Place, cards: Sequence[str]) -> None:
        empty: tuple[dict[str, list[Row]], dict[str, int]] = ({}, {})
        tables, cuts = self._asked("warehouse", lambda: story_reads.read_marts(self._connected(), place, cards), empty)
        if tables:
            self._add("warehouse", tables, f"pod {place.pod} at cut {cuts.get(place.pod)}, of the newest build")
        elif not self._is_silent("warehouse"):
            self._add("warehouse", {}, "not built yet")

    def _add_views(self, place: Place, keys: Sequence[str]) -> None:
        dsn, empty = self._settings.read_models_dsn, ({}, [], [])  # type: ignore[var-annotated]
        tables, positions, parked = self._asked("read models", lambda: story_reads.read_views(dsn, place, keys), empty)
        if self._is_silent("read models"):
            return
        stands = ", ".join(f"{row['projection']} at cut {row['cut']}" for row in positions) or "nothing applied yet"
        self._add("read models", {**tables, **({"parked_events": parked} if parked else {})}, stands)

    def _add_breaks(self, keys: Sequence[str]) -> None:
        def read() -> list[Row]:
            found = ledger.breaks(self._settings.control_dsn, aggregate_keys=keys, limit=BREAKS_MAX)
            return [one.as_json() for one in found]

        rows = self._asked("breaks", read, [])
        if not self._is_silent("breaks"):
            self._add("breaks", {"breaks": rows}, "ended ones too")

    def _add_sightings(self, aggregate_ids: Sequence[str]) -> None:
        def read() -> list[Row]:
            found = sightings_of(self._settings.control_dsn, aggregate_ids, limit=SIGHTINGS_MAX)
            return [{**vars(one), "kind": one.kind.value, "copy": one.copy or "OLTP"} for one in found]

        rows = self._asked("witnesses", read, [])
        if not self._is_silent("witnesses"):
            self._add("witnesses", {"sightings": rows}, "the newest first, compared ones too")

    def _add(self, store: str, tables: dict[str, list[Row]], stands_at: str) -> None:
        if not self._is_silent(store):
            self._sections.append(Section(store=store, tables=tables, stands_at=stands_at))

    def _is_silent(self, store: str) -> bool:
        return any(one.error for one in self._sections if one.store == store)

    def _asked(self, store: str, ask: Callable[[], Any], otherwise: Any) -> Any:
        """Return the answer; if the store does not answer, add one section with its error and return `otherwise`."""
        try:
            return ask()
        except (psycopg.Error, duckdb.Error, TieoutError) as error:
            if not self._is_silent(store):
                self._sections.append(Section(store=store, error=self._scrub(str(error))[:300]))
            return otherwise


def merged_events(outbox: Sequence[Row], lake: Sequence[Row], now: datetime) -> list[Row]:
    """Return every event of outbox and lake in the order of positions, with the stores that hold it and its age."""
    kept = {row["event_id"]: row for row in outbox}
    stored = {row["event_id"]: row for row in lake}
    merged = [_event(kept.get(event_id), stored.get(event_id), now) for event_id in dict.fromkeys([*kept, *stored])]
    return sorted(merged, key=lambda row: row["position"])


def _event(kept: Row | None, stored: Row | None, now: datetime) -> Row:
    known: Row = kept or stored or {}
    names = ("event_id", "event_type", "aggregate_type", "aggregate_id", "aggregate_version", "merchant_id", "position")
    return {
        **{name: known[name] for name in names},
        "cut": known["cut"],
        "occurred_at": known["occurred_at"],
        "recorded_at": known["recorded_at"],
        "age_seconds": round((now - known["recorded_at"]).total_seconds(), 3),
        "outbox": "there" if kept else "not there (pruned, or never written)",
        "lake": "not there" if stored is None else "there" if stored["copies"] == 1 else f"{stored['copies']} times",
        "lake_cut": stored and stored["cut"],
        "partition": stored and stored["partition"],
        "chunk": stored and stored["chunk"],
    }


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value
