"""Registering cuts on a real server: what they hold, who may take them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from contracts.errors import EpochChangedError
from contracts.ids import PARTITION_SQL, aggregate_key, partition_of
from contracts.settings import PodSettings
from streams.cuts import BEFORE_ALL, Cut, cuts_from, last_cut, look, register_cut, take_reconciler_cut
from streams.outbox_reading import EVENTS_OF_CUT, OutboxReader, observe_outbox, prune
from streams.reissue import cuts_of_aggregates
from tests.streams_support import SHAPE, create_outbox, insert_event, insert_events

MakeDatabase = Callable[..., str]


@pytest.fixture
def dsn(make_database: MakeDatabase) -> str:
    return create_outbox(make_database("tieout_relay"))


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


def register(connection: psycopg.Connection[Any], *, is_forced: bool = False) -> Cut | None:
    return register_cut(connection, SHAPE, registered_by="test", is_forced=is_forced)


def events_by_cut(dsn: str) -> dict[int, list[str]]:
    """Return the aggregate ids of every cut, as the relay reads them."""
    found = {}
    with OutboxReader(dsn, application_name="test") as reader, psycopg.connect(dsn, autocommit=True) as connection:
        seen = BEFORE_ALL
        for cut in cuts_from(connection, 1):
            batches = reader.events_of(cut, seen)
            found[cut.cut] = [name for batch in batches for name in batch.column("aggregate_id").to_pylist()]
            seen = cut.seen()
    return found


@contextmanager
def open_transaction(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a transaction that has its id and has not ended."""
    with psycopg.connect(dsn) as opened:
        opened.execute("select pg_current_xact_id()")
        yield opened
        opened.rollback()


def test_nothing_new_registers_nothing_unless_forced(connection: psycopg.Connection[Any]) -> None:
    assert register(connection) is None
    forced = register(connection, is_forced=True)
    assert forced is not None and forced.cut == 1
    assert register(connection) is None


def test_a_row_enters_the_first_cut_that_sees_its_commit(dsn: str, connection: psycopg.Connection[Any]) -> None:
    with psycopg.connect(dsn) as slow, psycopg.connect(dsn) as undone:
        insert_event(slow, "slow", 1)
        insert_event(undone, "undone", 1)
        insert_events(dsn, 1, prefix="early")
        register(connection)
        insert_events(dsn, 1, prefix="middle")
        register(connection)
        undone.rollback()
        assert register(connection) is None, "a rolled-back event is nothing new"
        slow.commit()
        register(connection)
    assert events_by_cut(dsn) == {1: ["early0"], 2: ["middle0"], 3: ["slow"]}


def test_savepoints_belong_to_their_transaction(dsn: str, connection: psycopg.Connection[Any]) -> None:
    with psycopg.connect(dsn) as writer:
        writer.execute("select 1")  # opens the transaction, so that the blocks below are savepoints
        with writer.transaction():
            insert_event(writer, "kept", 1)
        with pytest.raises(RuntimeError), writer.transaction():
            insert_event(writer, "undone", 1)
            raise RuntimeError
        register(connection, is_forced=True)
        writer.commit()
    register(connection)
    assert events_by_cut(dsn) == {1: [], 2: ["kept"]}


def test_a_foreign_transaction_delays_nothing(make_database: MakeDatabase, dsn: str) -> None:
    with ExitStack() as stack, psycopg.connect(dsn, autocommit=True) as connection:
        stack.enter_context(open_transaction(dsn))
        stack.enter_context(open_transaction(make_database()))
        insert_events(dsn, 3)
        assert register(connection) is not None
        assert register(connection) is None
        assert not look(connection, last_cut(connection).seen())[1]  # type: ignore[union-attr]
    assert events_by_cut(dsn) == {1: ["a0", "a1", "a2"]}


def test_a_reconciler_reads_exactly_its_cut(dsn: str, connection: psycopg.Connection[Any]) -> None:
    insert_events(dsn, 2, prefix="before")
    register(connection)
    insert_events(dsn, 1, prefix="between")
    with take_reconciler_cut(dsn, SHAPE, registered_by="reconciler") as taken:
        insert_events(dsn, 1, prefix="after")
        rows = taken.connection.execute("select aggregate_id from oltp.outbox order by position").fetchall()
        with psycopg.connect(dsn) as second:
            second.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            second.execute("set transaction snapshot '" + taken.exported_snapshot + "'")
            shared = second.execute("select aggregate_id from oltp.outbox order by position").fetchall()
    register(connection)
    assert taken.cut == 2
    assert rows == shared == [("before0",), ("before1",), ("between0",)]
    assert events_by_cut(dsn) == {1: ["before0", "before1"], 2: ["between0"], 3: ["after0"]}


def test_a_reconciler_that_loses_its_number_starts_over_with_a_new_snapshot(dsn: str) -> None:
    """A relay registers between the reconciler's snapshot and its registration."""
    raced: list[int] = []

    def connect() -> psycopg.Connection[Any]:
        class Racing(psycopg.Connection[Any]):
            def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
                result = super().execute(query, *args, **kwargs)
                if "pg_export_snapshot" in str(query) and not raced:
                    insert_events(dsn, 1, prefix="raced")
                    with psycopg.connect(dsn, autocommit=True) as other:
                        raced.append(register(other).cut)  # type: ignore[union-attr]
                return result

        return Racing.connect(dsn)

    with take_reconciler_cut(connect, SHAPE, registered_by="reconciler") as taken:
        count = taken.connection.execute("select count(*) from oltp.outbox").fetchone()
    assert (raced, taken.cut, count) == ([1], 2, (1,))
    assert events_by_cut(dsn) == {1: ["raced0"], 2: []}


def test_the_reader_and_the_relay_role_may_take_cuts(make_pod: Callable[..., PodSettings]) -> None:
    pod = make_pod()
    with take_reconciler_cut(pod.reader_dsn, SHAPE, registered_by="reconciler") as taken:
        assert taken.cut == 1
    with psycopg.connect(pod.relay_dsn, autocommit=True) as connection:
        assert register(connection, is_forced=True).cut == 2  # type: ignore[union-attr]


def test_a_changed_epoch_is_refused(dsn: str, connection: psycopg.Connection[Any]) -> None:
    register(connection, is_forced=True)
    connection.execute("update oltp.cuts set epoch = 'another'")
    with pytest.raises(EpochChangedError, match="promoted, restored or cloned"):
        register(connection, is_forced=True)
    with (
        pytest.raises(EpochChangedError),
        take_reconciler_cut(dsn, SHAPE, registered_by="reconciler"),
    ):
        pass
    assert connection.execute("select count(*) from oltp.cuts").fetchone() == (1,)


def test_the_database_places_events_as_python_does(connection: psycopg.Connection[Any]) -> None:
    keys = [("shop", "order", f"id-{number}") for number in range(200)] + [("東京", "café", "'%s")]
    query = (
        f"select {PARTITION_SQL} from unnest(%(m)s::text[], %(t)s::text[], %(i)s::text[])"
        " as keys (merchant_id, aggregate_type, aggregate_id)"
    )
    merchants, types, ids = (list(column) for column in zip(*keys, strict=True))
    rows = connection.execute(query, {"m": merchants, "t": types, "i": ids, "partition_count": 5}).fetchall()
    assert [row[0] for row in rows] == [partition_of(aggregate_key(*key), 5) for key in keys]


def test_pruning_takes_what_the_cut_holds_and_nothing_else(dsn: str, connection: psycopg.Connection[Any]) -> None:
    with psycopg.connect(dsn) as slow:
        insert_event(slow, "slow", 1)
        for number in range(4):
            insert_events(dsn, 1, prefix=f"{number}-")
            register(connection)
        before = events_by_cut(dsn)
        assert prune(dsn, 1).events == 0
        assert prune(dsn, 9).events == 0
        pruned = prune(dsn, 3)
        slow.commit()
    register(connection)
    assert (pruned.events, pruned.cuts) == (3, 2)
    assert connection.execute("select aggregate_id from oltp.outbox order by position").fetchall() == [
        ("slow",),
        ("3-0",),
    ]
    with OutboxReader(dsn, application_name="test") as reader:
        base, fourth, fifth = cuts_from(connection, 3)
        again = {
            cut.cut: [
                name for batch in reader.events_of(cut, previous.seen()) for name in batch["aggregate_id"].to_pylist()
            ]
            for previous, cut in ((base, fourth), (fourth, fifth))
        }
    assert again == {4: before[4], 5: ["slow"]}


def test_aggregates_are_found_in_the_cuts_that_hold_them(dsn: str, connection: psycopg.Connection[Any]) -> None:
    with psycopg.connect(dsn) as slow, psycopg.connect(dsn) as slower:
        insert_event(slow, "slow", 1)
        insert_event(slower, "slower", 1)
        for number in range(6):
            insert_events(dsn, 2, prefix=f"{number}-")
            register(connection)
            if number == 2:
                slow.commit()
        slower.commit()
        register(connection)
    insert_events(dsn, 1, prefix="not yet in a cut ")
    rows = connection.execute("select merchant_id, aggregate_type, aggregate_id from oltp.outbox").fetchall()
    keys = {aggregate_id: aggregate_key(merchant, kind, aggregate_id) for merchant, kind, aggregate_id in rows}
    pod = PodSettings(pod="pod1", owner_dsn="", app_dsn="", relay_dsn=dsn, reader_dsn="")
    held = {name: cut for cut, names in events_by_cut(dsn).items() for name in names}
    assert (held["slow"], held["slower"], held["5-0"]) == (4, 7, 6) and len(held) == len(keys) - 1
    found = {name: cuts_of_aggregates(pod, [key]) for name, key in keys.items()}
    assert found == {name: [held[name]] if name in held else [] for name in keys}
    assert cuts_of_aggregates(pod, list(keys.values())) == [1, 2, 3, 4, 5, 6, 7]


def test_an_old_cut_is_read_without_what_came_after_it(dsn: str, connection: psycopg.Connection[Any]) -> None:
    for number in range(3):
        insert_events(dsn, 1, prefix=f"{number}-")
        register(connection)
    insert_events(dsn, 500, prefix="after-")
    register(connection)
    connection.execute("analyze oltp.outbox")
    second, third = cuts_from(connection, 2, limit=2)
    values = {**second.seen().after(), "snapshot": third.snapshot, "partition_count": third.partition_count}
    statement = psycopg.ClientCursor(connection).mogrify(EVENTS_OF_CUT, values)
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute("set enable_seqscan = off")
        ((plan,),) = cursor.execute(f"explain (analyze, format json) {statement}".encode()).fetchall()
    looked_at = sum(node.get("Rows Removed by Filter", 0) + node["Actual Rows"] for node in scans(plan[0]["Plan"]))
    assert 1 <= looked_at <= 5, plan


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan that read the table."""
    if node.get("Relation Name") == "outbox":
        yield node
    for child in node.get("Plans", ()):
        yield from scans(child)


def test_what_is_unpublished_is_counted_and_aged(dsn: str, connection: psycopg.Connection[Any]) -> None:
    assert observe_outbox(dsn, 0).unpublished_events == 0
    insert_events(dsn, 2)
    connection.execute("update oltp.outbox set recorded_at = clock_timestamp() - interval '90 seconds'")
    register(connection)
    insert_events(dsn, 3, prefix="b")
    everything, rest = observe_outbox(dsn, 0), observe_outbox(dsn, 1)
    assert (everything.cut, everything.unpublished_events, everything.held_by) == (1, 5, None)
    assert everything.oldest_unpublished_seconds >= 90 > rest.oldest_unpublished_seconds
    assert rest.unpublished_events == 3
    connection.execute("delete from oltp.outbox")
    assert observe_outbox(dsn, 1).oldest_unpublished_seconds == 0.0


def test_the_relay_role_may_prune(make_pod: Callable[..., PodSettings]) -> None:
    pod = make_pod()
    with psycopg.connect(pod.relay_dsn, autocommit=True) as connection:
        for _ in range(3):
            register(connection, is_forced=True)
    assert prune(pod.relay_dsn, 3).cuts == 2
