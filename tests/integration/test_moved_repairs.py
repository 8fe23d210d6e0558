"""Repairs of what has moved to another pod: whichever pod's part of a copy is damaged, it is found and repaired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
import pytest

from contracts.breaks import Break, BreakState
from contracts.progress import SILENT
from contracts.settings import Settings, as_values
from contracts.verdicts import Verdict
from drills.damages.outcomes import unsettled
from drills.damages.place import Place
from repair import ledger
from repair.proving import stored_pairs_of
from repair.repair_run import repair_breaks
from repair.run_report import RepairReport
from repair.tools import Repairing
from repair.values import ActionKind
from stack.composition.damaging import place_of
from stack.composition.migrations import migrate_everything
from stack.composition.repairing import repairing_tools
from streams.reissue import REISSUED_SCHEMA
from tests.conftest import Cluster
from tests.integration.moving import move
from tests.integration.reconcile_world import Shop, busy_shops

LAKE = ("oltp_lake", "log_manifests")
VIEWS = ("lake_account_view", "lake_fulfillment_view")
FINANCE = ("operational_finance", "journal_identities")
EVENT = "pod = $pod and aggregate_id = $id and aggregate_version = $version"


@dataclass(kw_only=True)
class World:
    """A merchant that has moved from pod1 to pod2, and another one that always lived in pod2."""

    tools: Repairing
    shop: Shop
    split: list[str]
    """Orders with versions 1 and 2 in pod1, and 3 in pod2."""
    left: list[str]
    """Orders that the merchant had in pod1, and of which nothing has happened since."""
    comparisons: int = 0

    @property
    def settings(self) -> Settings:
        return self.tools.settings

    def place(self, pod: str) -> Place:
        return place_of(self.settings, pod)

    def key(self, order_id: str) -> str:
        return f"{self.shop.merchant_id}/order/{order_id}"

    def compare(self, *families: str) -> list[Break]:
        """Compare both pods and record the result; return the breaks that are open."""
        self.comparisons += 1
        results = self.tools.recheck(families, ("pod1", "pod2"))
        assert {one.verdict for one in results} <= {Verdict.CONSISTENT, Verdict.INCONSISTENT}
        ledger.record(self.settings.control_dsn, results, run=f"comparison {self.comparisons}")
        return ledger.breaks(self.settings.control_dsn, states=[BreakState.OPEN], limit=None)

    def repair(self) -> RepairReport:
        report = repair_breaks(self.tools)
        assert [action for action in report.actions if action.error] == []
        return report

    def damage(self, pod: str, order_id: str, version: int, *statements: str) -> None:
        """Change one event in the lake."""
        self.place(pod).change_lake(
            *(statement.format(event=EVENT) for statement in statements), pod=pod, id=order_id, version=version
        )

    def lake(self) -> Sequence[object]:
        """Return every event of the lake, with all that is sent of it."""
        names = ", ".join(f'"{name}"' for name in REISSUED_SCHEMA.names)
        with self.place("pod1").lake() as lake:
            return lake.execute(f"select {names} from lake.raw.events order by pod, event_id").fetchall()

    def read_models(self, table: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.settings.read_models_dsn) as connection:
            query = f"select * from read_models.{table} where merchant_id = %s order by 1, 2"
            return connection.execute(query, [self.shop.merchant_id]).fetchall()

    def event_id(self, pod: str, order_id: str, version: int) -> str:
        with psycopg.connect(self.settings.pod(pod).reader_dsn) as connection:
            query = "select event_id::text from oltp.outbox where aggregate_id = %s and aggregate_version = %s"
            return str(connection.execute(query, [order_id, version]).fetchall()[0][0])

    def sentences(self) -> list[str]:
        """Return why breaks wait for a person."""
        waiting = ledger.breaks(self.settings.control_dsn, states=[BreakState.ESCALATED], limit=None)
        return [item.reason for item in waiting]


@pytest.fixture
def world(settings: Settings, postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, value in as_values(settings).items():
        monkeypatch.setenv(name, value)  # the process that builds the warehouse has its settings from there
    migrate_everything(settings)
    with busy_shops(settings) as (shop, other), repairing_tools(settings, SILENT) as tools:
        split = [shop.cancelled_in_part().order_id for _ in range(9)]
        left = [shop.order().order_id for _ in range(6)]
        move(settings, postgres, shop.merchant_id)
        shop.pod = other.pod
        for order_id in split:
            shop.cancel(order_id)
        shop.refunded()
        yield World(tools=tools, shop=shop, split=split, left=left)


LOSE = ("delete from lake.raw.events where {event}",)
CHANGE = (
    "update lake.raw.events set payload = replace(payload, '\"total_minor\":', '\"total_minor\":1') where {event}",
)
RENUMBER = (
    'update lake.raw.events set payload = replace(payload, \'"order_number":"\', \'"order_number":"x\') where {event}',
)
DOUBLE = ("insert into lake.raw.events select * from lake.raw.events where {event}",)


@pytest.mark.in_turn("moved", seconds=36)
@pytest.mark.timeout(600)
def test_events_of_either_pod_are_given_back_replaced_and_freed_of_their_copies(world: World) -> None:
    assert world.compare(*LAKE) == []
    before = world.lake()
    damaged = (
        ("pod1", 1, world.split[:3]),
        ("pod1", 2, world.split[3:6]),
        ("pod2", 3, world.split[6:]),
        ("pod1", 1, world.left[:3]),
    )
    for pod, version, orders in damaged:
        for statements, order_id in zip((LOSE, CHANGE, DOUBLE), orders, strict=True):
            world.damage(pod, order_id, version, *statements)
    found = world.compare(*LAKE)
    assert {item.pod for item in found if item.pair == "oltp_lake.order"} == {"pod2"}, "where the merchant lives"
    report = world.repair()
    assert report.is_clean and unsettled(world.settings.control_dsn) == []
    assert world.lake() == before
    done = {(action.kind, action.pod, action.key_count) for action in report.actions}
    kinds = (ActionKind.RESTORE_EVENTS, ActionKind.REPLACE_EVENTS, ActionKind.REMOVE_DUPLICATES)
    assert done == {(kind.value, pod, count) for kind in kinds for pod, count in (("pod1", 3), ("pod2", 1))}
    assert world.compare(*LAKE) == []
    assert world.repair().actions == (), "nothing is repaired twice"


@pytest.mark.in_turn("moved", seconds=19)
@pytest.mark.timeout(600)
def test_what_the_old_pods_manifests_miss_is_given_back_by_a_repair_of_that_pod_alone(world: World) -> None:
    assert world.compare(*LAKE) == []
    before = world.lake()
    world.damage("pod1", world.split[0], 1, *LOSE)
    world.damage("pod1", world.split[1], 2, *CHANGE)
    found = world.compare(*LAKE)
    assert {item.pod for item in found} == {"pod1", "pod2"}
    report = repair_breaks(world.tools, pods=["pod1"])
    assert {action.pod for action in report.actions} == {"pod1"} and world.lake() == before
    # The other pod's breaks of the same damage find everything in order.
    report = world.repair()
    assert report.actions == () and report.is_clean and unsettled(world.settings.control_dsn) == []


def add_event(world: World, pod: str, like: tuple[str, str, int], *, event_id: str, version: int) -> None:
    """Add an event to the lake's part of a pod that is like another one."""
    of_pod, order_id, of_version = like
    world.place(pod).change_lake(
        """insert into lake.raw.events by name
           select e.* replace ($pod as pod, $event_id as event_id, $added as aggregate_version, reached.cut as cut)
           from lake.raw.events as e, (select max(cut) as cut from lake.raw.events where pod = $pod) as reached
           where e.pod = $of_pod and e.aggregate_id = $id and e.aggregate_version = $version""",
        pod=pod, of_pod=of_pod, id=order_id, version=of_version, event_id=event_id, added=version,
    )  # fmt: skip


@pytest.mark.in_turn("moved", seconds=42)
@pytest.mark.timeout(600)
def test_a_forged_event_is_removed_and_never_the_other_pods_true_one(world: World) -> None:
    assert world.compare(*LAKE) == []
    before = world.lake()
    first, second, third, fourth = world.split[:4]
    add_event(world, "pod1", ("pod1", first, 2), event_id="forged-1", version=2)
    add_event(world, "pod2", ("pod2", second, 3), event_id="forged-2", version=3)
    # The true event of one pod stands among those of the other one, too.
    true = world.event_id("pod1", third, 1)
    add_event(world, "pod2", ("pod1", third, 1), event_id=true, version=1)
    found = world.compare(*LAKE)
    assert {world.key(order_id) for order_id in (first, second, third)} <= {item.aggregate_key for item in found}
    report = world.repair()
    assert world.lake() == before and report.is_clean and unsettled(world.settings.control_dsn) == []
    removed = {(one.pod, one.keys) for one in report.actions if one.kind == ActionKind.REMOVE_EXTRA_EVENTS.value}
    assert removed == {("pod1", ("forged-1",)), ("pod2", tuple(sorted(("forged-2", true))))}

    # A version of the new pod that only the old one's events have, too: its outbox may have lost it.
    add_event(world, "pod2", ("pod1", fourth, 1), event_id="unknown-1", version=1)
    world.compare(*LAKE)
    world.repair()
    (sentence,) = {text for text in world.sentences() if "unknown-1" in text}
    assert "the outbox of pod2 no longer has" in sentence
    assert "lives in pod2 now; of its events pod1 has sent versions 1 to 2 and pod2 has sent version 3." in sentence


@pytest.mark.in_turn("moved", seconds=20)
@pytest.mark.timeout(600)
def test_rows_of_views_are_put_right_whichever_pod_they_name(world: World) -> None:
    assert world.compare(*VIEWS) == []
    before = {table: world.read_models(table) for table in ("account_orders", "fulfillment_orders")}
    gone, changed, put_back, given_away = world.split[:4]
    with psycopg.connect(world.settings.read_models_dsn) as connection:
        for order_id in (gone, world.left[0]):
            connection.execute("delete from read_models.account_orders where order_id = %s", [order_id])
            connection.execute("delete from read_models.fulfillment_orders where order_id = %s", [order_id])
        for order_id in (changed, world.left[1]):
            query = "update read_models.account_orders set total_minor = total_minor + 1 where order_id = %s"
            connection.execute(query, [order_id])
        # No version of the new pod comes after this one, and the old pod's row stands in its way.
        query = "update read_models.account_orders set pod = %s, version = 9, directory_epoch = %s where order_id = %s"
        connection.execute(query, ["pod1", 9, put_back])
        connection.execute(query, ["pod1", 1, given_away])
        connection.execute(query, ["pod2", 9, world.left[2]])
    assert world.compare(*VIEWS) != []
    report = world.repair()
    assert report.is_clean and unsettled(world.settings.control_dsn) == []
    assert {table: world.read_models(table) for table in before} == before
    assert {one.kind for one in report.actions} == {ActionKind.REBUILD_KEYS.value}
    assert world.compare(*VIEWS) == [] and world.repair().actions == ()


@pytest.mark.in_turn("moved", seconds=120)
@pytest.mark.timeout(600)
def test_marts_of_what_has_moved_are_built_again_from_each_pods_first_cut(world: World) -> None:
    assert world.compare(*FINANCE) == []
    before = mart_rows(world)
    split, left = world.split[0], world.left[0]
    history = "lake.intermediate.int_orders_history"
    statements = [
        f"update {history} set total_minor = total_minor + 1 where order_id in ('{split}', '{left}')",
        f"delete from {history} where order_id = '{world.split[1]}'",
    ]
    world.place("pod1").change_lake(*statements)
    assert world.compare(*FINANCE) != []
    report = world.repair()
    assert report.is_clean and unsettled(world.settings.control_dsn) == [] and mart_rows(world) == before
    (built,) = report.actions
    assert (
        built.kind == ActionKind.BUILD.value
        and built.after is not None
        and set(built.after["since"]) == {"pod1", "pod2"}
    )


@pytest.mark.in_turn("moved", seconds=60)
@pytest.mark.timeout(600)
def test_marts_are_built_again_only_where_they_were_built_from_a_wrong_event_of_the_old_pod(world: World) -> None:
    assert world.compare(*FINANCE) == []
    before = mart_rows(world)
    world.damage("pod1", world.split[2], 1, *LOSE)
    assert {item.pod for item in world.compare("oltp_lake")} == {"pod2"}
    report = world.repair()
    assert [(one.kind, one.pod) for one in report.actions] == [(ActionKind.RESTORE_EVENTS.value, "pod1")]
    assert {one.pair for one in report.results} >= {
        "oltp_lake.order",
        *stored_pairs_of(["order"]),
    }
    assert report.is_clean and unsettled(world.settings.control_dsn) == []

    world.damage("pod1", world.split[3], 1, *RENUMBER)
    world.tools.build({"pod1": 0, "pod2": 0}, False, ())
    assert {(item.pair, item.pod) for item in world.compare(*LAKE)} == {("log_manifests", "pod1")}
    report = world.repair()
    assert [(one.kind, one.pod) for one in report.actions] == [
        (ActionKind.REPLACE_EVENTS.value, "pod1"),
        (ActionKind.BUILD.value, "pod1,pod2"),
    ]
    built = report.actions[1].after
    assert built is not None and built["tables"] == ["int_orders_history"]
    assert {(item.pair, item.aggregate_key) for item in report.breaks} == {
        ("log_manifests", world.key(world.split[3])),
        ("lake_warehouse.orders_history", world.key(world.split[3])),
    }
    assert report.is_clean and unsettled(world.settings.control_dsn) == [] and mart_rows(world) == before
    assert world.compare(*LAKE, *FINANCE, "lake_warehouse") == []


def mart_rows(world: World) -> Sequence[object]:
    with world.place("pod1").lake() as lake:
        return lake.execute(
            """select order_id, pod, status, total_minor, cancelled_minor from lake.marts.orders
               where merchant_id = $m order by all""",
            {"m": world.shop.merchant_id},
        ).fetchall()


def rename(world: World, pod: str, order_id: str, order_number: str) -> None:
    """Change an order's row past the commands, as the tables' owner."""
    with psycopg.connect(world.settings.pod(pod).owner_dsn) as connection:
        connection.execute("alter table oltp.orders disable trigger user")
        connection.execute("update oltp.orders set order_number = %s where order_id = %s", [order_number, order_id])
        connection.execute("alter table oltp.orders enable trigger user")


@pytest.mark.in_turn("moved", seconds=31)
@pytest.mark.timeout(600)
def test_a_row_that_no_event_explains_is_stated_where_its_merchant_lives(world: World, postgres: Cluster) -> None:
    assert world.compare(*LAKE) == []
    renamed, of_the_old = world.left[:2]
    rename(world, "pod2", renamed, "another")
    # What the old pod still holds is nobody's.
    rename(world, "pod1", of_the_old, "nobody's")
    found = world.compare(*LAKE)
    assert {(item.pod, item.aggregate_key) for item in found} == {("pod2", world.key(renamed))}
    report = world.repair()
    assert [(one.kind, one.pod, one.keys) for one in report.actions] == [
        (ActionKind.RESTATE.value, "pod2", (world.key(renamed),))
    ]
    assert report.is_clean and unsettled(world.settings.control_dsn) == []
    assert world.event_id("pod2", renamed, 2)

    # An event that no store has any more: a person, who is told what each pod has sent.
    dsn = postgres.superuser_dsn(str(psycopg.conninfo.conninfo_to_dict(world.settings.pods[0].owner_dsn)["dbname"]))
    with psycopg.connect(dsn) as connection:
        connection.execute("set session_replication_role = replica")
        query = "delete from oltp.outbox where aggregate_id = %s and aggregate_version = 2"
        connection.execute(query, [world.split[0]])
    world.damage("pod1", world.split[0], 2, *LOSE)
    world.compare("oltp_lake")
    report = world.repair()
    assert report.actions == ()
    (sentence,) = set(world.sentences())
    assert sentence.startswith(f"Version 2 of {world.key(world.split[0])}: no store has the event any more.")
    assert "of its events pod1 has sent version 1 and pod2 has sent version 3." in sentence
