"""Pruning an outbox: only what the backup holds exactly, since the outbox may have the last right copy of an event."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from contracts.settings import Settings
from derived.lake_backup import read_index, verified_chains, verified_rows
from derived.lake_connection import open_beside, open_lake
from derived.retention import Pruned, prune_outboxes
from tests.integration.reconcile_world import busy_shops, migrate_lake_of, propagate

EVENTS = "lake.raw.events"
ONE = f"event_id = (select min(event_id) from {EVENTS} where pod = 'pod1' and aggregate_type = 'payment')"
DAMAGES = {
    "more money": f"""update {EVENTS} set payload = replace(payload, '_minor":', '_minor":1') where {ONE}""",
    "another version": f"update {EVENTS} set aggregate_version = aggregate_version + 1 where {ONE}",
    "another time": f"update {EVENTS} set occurred_at = occurred_at + interval 1 microsecond where {ONE}",
    "lost": f"delete from {EVENTS} where {ONE}",
    "doubled": f"insert into {EVENTS} select * from {EVENTS} where {ONE}",
    "forged": f"insert into {EVENTS} select * replace (md5('x')::uuid::varchar as event_id) from {EVENTS} where {ONE}",
}


@pytest.fixture
def system(settings: Settings) -> Iterator[Settings]:
    """Two pods with something in every table, all of it in the lake, nothing backed up."""
    migrate_lake_of(settings)
    with busy_shops(settings) as shops:
        for pod in settings.pods:
            propagate(settings, pod, ("lake",))
        for shop, pod in zip(shops, settings.pods, strict=True):
            shop.paid()
            propagate(settings, pod, ("lake",))
        yield settings


def outbox_ids(system: Settings) -> set[str]:
    with psycopg.connect(system.pods[0].reader_dsn) as connection:
        return {row[0] for row in connection.execute("select event_id::text from oltp.outbox").fetchall()}


def lake_do(system: Settings, statement: str) -> None:
    with open_lake(system) as lake:
        lake.execute(statement)


def lake_ids(system: Settings) -> list[str]:
    with open_lake(system, read_only=True) as lake:
        rows = lake.execute(f"select event_id from {EVENTS} where pod = 'pod1' order by 1").fetchall()
    return [row[0] for row in rows]


def of_pod1(found: list[Pruned]) -> Pruned:
    (one,) = (item for item in found if item.pod == "pod1")
    return one


def test_what_the_backup_holds_exactly_is_deleted(system: Settings) -> None:
    before = outbox_ids(system)
    done = prune_outboxes(system)
    assert [one.held_back for one in done] == ["", ""]
    assert of_pod1(done).pruned_events == len(before) > 0 and outbox_ids(system) == set()
    assert of_pod1(prune_outboxes(system)).pruned_events == 0


@pytest.mark.parametrize("damage", DAMAGES)
def test_while_the_lake_differs_nothing_is_deleted_until_it_is_mended_or_accepted(
    system: Settings, damage: str
) -> None:
    before, right = outbox_ids(system), lake_ids(system)
    lake_do(system, f"create table lake.raw.kept as select * from {EVENTS}")
    lake_do(system, DAMAGES[damage])
    forged = set(lake_ids(system)) - set(right)
    wrong = forged.pop() if forged else first_payment(system, "lake.raw.kept")

    held = prune_outboxes(system)
    assert wrong in of_pod1(held).held_back and "1 event " in of_pod1(held).held_back
    assert of_pod1(held).pruned_events == 0 and outbox_ids(system) == before
    assert [one.held_back for one in held if one.pod != "pod1"] == [""], "another pod is not concerned"

    backed_up = read_index(system.lake_backup_path)
    lake_do(system, f"delete from {EVENTS}")
    lake_do(system, f"insert into {EVENTS} select * from lake.raw.kept")
    mended = of_pod1(prune_outboxes(system))
    assert (mended.held_back, mended.pruned_events) == ("", len(before))
    # The backup was written anew, with the right events; it has no wrong one that a restore would bring back.
    assert [one.file for one in read_index(system.lake_backup_path)] != [one.file for one in backed_up]
    folder = system.lake_backup_path
    with open_beside() as connection:
        rows = [
            row[0]
            for segment in verified_chains(folder)["pod1"]
            for row in connection.execute(
                f"select event_id from {verified_rows(connection, folder, segment)}"
            ).fetchall()
        ]
    assert sorted(rows) == right


def test_a_difference_that_a_person_has_accepted_holds_nothing_back(system: Settings) -> None:
    lost, before = first_payment(system, EVENTS), outbox_ids(system)
    lake_do(system, DAMAGES["lost"])
    assert of_pod1(prune_outboxes(system)).held_back
    done = of_pod1(prune_outboxes(system, lambda pod: [lost] if pod == "pod1" else []))
    assert (done.held_back, done.pruned_events) == ("", len(before))


def first_payment(system: Settings, table: str) -> str:
    with open_lake(system, read_only=True) as lake:
        query = f"select min(event_id) from {table} where pod = 'pod1' and aggregate_type = 'payment'"
        return str(lake.execute(query).fetchall()[0][0])
