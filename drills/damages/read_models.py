"""Damages of every read model: rows missing, extra, stale or changed; tables emptied; positions moved; events refused.

Belongs here: making such damages, and their required outcomes. Does not belong here: the tables and columns of one read
model (modules named after it).
"""

from __future__ import annotations

from typing import Any

from contracts.verdicts import DifferenceClass
from drills.damages.place import WHOLE, Cell, Damage, Harm, Place, Target, Undo, back, harm, until
from repair.values import ActionKind

GHOST = "01970000-0000-7000-8000-000000000000"
ID_COLUMNS = {"payment": "payment_id", "order": "order_id", "reservation": "reservation_id"}


def change(place: Place, target: Target, *statements: str, **values: Any) -> Harm:
    """Run statements about one aggregate in the read models."""
    place.change_view(*statements, id=target.aggregate_id, **values)
    return harm(target)


def one(kind: str, statement: str, *traits: str) -> Damage:
    """Return a damage to the row of one aggregate; ``{where}`` is replaced by the condition that selects the row."""

    def do(place: Place) -> Harm:
        return change(place, place.take(kind, *traits), statement.format(where=f"{ID_COLUMNS[kind]} = %(id)s"))

    return do


def two(kind: str, table: str, column: str, *traits: str) -> Damage:
    """Return two errors that cancel each other: plus 1 in one row, minus 1 in another."""

    def do(place: Place) -> Harm:
        one, other = place.take(kind, *traits), place.take(kind, *traits)
        for target, difference in ((one, 1), (other, -1)):
            statement = f"update read_models.{table} set {column} = {column} + %(by)s where {ID_COLUMNS[kind]} = %(id)s"
            change(place, target, statement, by=difference)
        return harm(one, other)

    return do


def ghost(kind: str, table: str, *traits: str) -> Damage:
    """Return the damage of a row without an aggregate: a copy of another row with a new id."""

    def do(place: Place) -> Harm:
        like = place.take(kind, *traits)
        change(
            place,
            like,
            f"create temp table ghost (like read_models.{table}) on commit drop",
            f"insert into ghost select * from read_models.{table} where {ID_COLUMNS[kind]} = %(id)s",
            f"update ghost set {ID_COLUMNS[kind]} = '{GHOST}'",
            f"insert into read_models.{table} select * from ghost",
        )
        return harm(Target(kind=kind, merchant_id=like.merchant_id, aggregate_id=GHOST, traits=frozenset()))

    return do


def whole(*statements: str) -> Damage:
    """Return a damage to all rows of a pod in a read model."""

    def do(place: Place) -> Harm:
        place.change_view(*statements)
        return WHOLE

    return do


def position_back(view: str) -> Damage:
    """Return the damage that moves a view's position back by three cuts; its rows stay unchanged."""
    return whole(
        f"""update read_models.positions set cut = greatest(cut - 3, 0), chunk = 0
            where projection = '{view}' and pod = %(pod)s"""
    )


def position_forward(view: str) -> Damage:
    """Return the damage that moves a view's position past events that it has not applied."""

    def do(place: Place) -> Harm:
        with place.views() as connection:
            # The consumer waits for this lock until the new orders are in the lake.
            connection.execute(
                "select from read_models.positions where projection = %s and pod = %s for update", [view, place.pod]
            )
            place.place_orders()
            connection.execute(
                "update read_models.positions set cut = %s, chunk = 0 where projection = %s and pod = %s",
                [place.lake_cut(), view, place.pod],
            )
        return WHOLE

    return do


def position_beyond(view: str) -> Damage:
    """Return the damage that moves a view's position past the newest cut; without a repair it would wait forever."""
    return whole(
        f"""update read_models.positions set cut = cut + 1000000, chunk = 0
            where projection = '{view}' and pod = %(pod)s"""
    )


REFUSE = """
    create or replace function read_models.refuse() returns trigger language plpgsql as
    'begin raise exception using errcode = ''22023'', message = ''this version cannot store it''; end'
"""


def park_events(view: str, table: str) -> Damage:
    """Return the damage of a view that refuses new orders for a while; they and their later events are parked."""

    def do(place: Place) -> Harm:
        place.change_view(
            REFUSE,
            f"""create or replace trigger refuse before insert or update on read_models.{table}
                for each row when (new.pod = '{place.pod}') execute function read_models.refuse()""",
        )
        place.place_orders()
        newest = place.lake_cut()
        until(lambda: _position(place, view) >= newest, f"{view} at cut {newest}")
        # Set the time back by an hour, because events that are parked only for a moment are not reported.
        aged = """update read_models.parked_events set parked_at = parked_at - interval '1 hour'
                  where projection = %s and pod = %s and parked_at > now() - interval '30 minutes'"""
        with place.views() as connection:
            connection.autocommit = True
            until(lambda: connection.execute(aged, [view, place.pod]).rowcount > 0, "A parked event")
        return WHOLE

    return do


def _position(place: Place, view: str) -> int:
    query = "select coalesce(min(cut), 0) from read_models.positions where projection = %s and pod = %s"
    with place.views() as connection:
        return int(connection.execute(query, [view, place.pod]).fetchall()[0][0])


def fix_view(table: str) -> Undo:
    """Return the fix, after which the view accepts orders again."""

    def undo(place: Place, done: Harm) -> None:
        place.change_view(f"drop trigger if exists refuse on read_models.{table}")

    return undo


KEYS, WHOLE_VIEW = (ActionKind.REBUILD_KEYS,), (ActionKind.REBUILD_VIEW,)


def in_rows(view: str, damage: str, do: Damage, kind: DifferenceClass) -> Cell:
    """Return the cell for a damage to some rows, which are then rebuilt."""
    return Cell(damage=damage, store=view, do=do, named={f"lake_{view}": frozenset({kind})}, actions=KEYS)


def in_all(
    view: str,
    damage: str,
    do: Damage,
    *kinds: DifferenceClass,
    also: tuple[DifferenceClass, ...] = (),
    pod: int = 0,
) -> Cell:
    """Return the cell for a damage to one or more tables; the whole view is then rebuilt."""
    return Cell(
        damage=damage,
        store=view,
        do=do,
        named={f"lake_{view}": frozenset(kinds)},
        may_also_be=frozenset(also),
        actions=WHOLE_VIEW,
        may_instead=KEYS,
        pod=pod,
    )


def moved_back(view: str, *classes: DifferenceClass, pod: int = 0) -> Cell:
    """Return the cell for a position that was moved back; `classes` are those of what traffic wrote in these cuts.

    The view's rows are newer than its position says. An aggregate that came meanwhile is extra, a row that ended
    meanwhile is missing; no row is stale.
    """
    return back(view, position_back(view), f"lake_{view}", *classes, pod=pod)


def moved_forward(view: str) -> Cell:
    """Return the cell for a position that was moved forward.

    Rows that running traffic changed meanwhile may be stale, or shipped lines may still be in the view.
    """
    return Cell(
        damage="position moved forward",
        store=view,
        do=position_forward(view),
        named={f"lake_{view}": frozenset({DifferenceClass.MISSING})},
        may_also_be=frozenset({DifferenceClass.STALE, DifferenceClass.EXTRA, DifferenceClass.DIFFERENT}),
        actions=KEYS,
    )


def parked(view: str, table: str) -> Cell:
    """Return the cell for a view that refuses orders until it is fixed."""
    return Cell(
        damage="events parked, others behind them",
        store=view,
        do=park_events(view, table),
        named={f"lake_{view}": frozenset({DifferenceClass.PARKED})},
        actions=(ActionKind.REPLAY_PARKED,),
        undo=fix_view(table),
        is_fixed_first=True,
    )
