"""The warehouse over two pods' commerce: exact, incremental by cut, and answerable as of any cut.

One story, told in builds that later ones stand on; each test looks at its own part of it.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import duckdb
import msgspec
import pytest

from contracts.errors import InputError, WarehouseError
from contracts.events.order import OrderState
from contracts.sightings import KeptSighting
from derived import builds, warehouse
from derived.builds import TABLES, Build, CompleteBuild, latest_build, record_completion, record_cut_vector
from derived.dbt_by_hand import ByHand, check_arguments, locked_for, run_by_hand
from derived.lake_connection import extension_file, lake_place, open_lake
from derived.lake_files import lost_tables
from derived.querying import ask
from derived.reports import REPORTS, Report, as_of, read_report
from derived.view_definitions import unchanged_views
from derived.warehouse import BuildResult, build_warehouse, node_runs, run_dbt
from reconcile.sightings import migrate as migrate_sightings
from reconcile.sightings import newest_sightings
from tests.commerce import Commerce
from tests.conftest import SEED, Cluster
from tests.integration.warehouse.querying import by_reading_role, check_it_only_reads, check_its_limits
from tests.integration.warehouse.world import Contents, World
from tests.lost_replies import losing_way
from tests.unit.warehouse.test_dbt_project import properties
from witness.lake import LakeWitness

pytestmark = pytest.mark.timeout(600)

ORDER_COLUMNS = ("version", "status", "total_minor", "cancelled_minor", "tax_minor")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The warehouse after a build."""

    result: BuildResult
    marts: Contents
    reports: dict[str, Report]
    orders: dict[str, tuple[object, ...]]
    """What the pods held then, by order: ORDER_COLUMNS. Other tests go on with the same pods, in any order."""
    payments: dict[str, tuple[int, int]]
    lines: int


def moment(world: World, result: BuildResult) -> Moment:
    faults = [(node.name, node.status, node.message) for node in result.test_failures]
    assert result.is_complete, faults
    return Moment(
        result=result,
        marts=world.marts(result.cuts),
        reports={name: read_report(world.settings, name) for name in REPORTS},
        orders={
            order.order_id: (
                order.version,
                order.status.value,
                order.total_minor,
                order.cancelled_minor,
                order.tax_minor,
            )
            for commerce in world.commerce.values()
            for order in commerce.orders
        },
        payments={
            payment.payment_id: (payment.captured_minor, payment.refunded_minor)
            for commerce in world.commerce.values()
            for payment in commerce.payments.values()
        },
        lines=sum(len(order.lines) for commerce in world.commerce.values() for order in commerce.orders),
    )


@pytest.fixture(scope="module")
def world(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(postgres, tmp_path_factory.mktemp("warehouse"), SEED)
    yield made
    made.lake.close()


@pytest.fixture(scope="module")
def first(world: World) -> Moment:
    """A build of everything; pod1 is two cuts ahead of pod2."""
    for _ in range(3):
        world.trade("pod1", 60)
    world.trade("pod2", 60)
    return moment(world, build_warehouse(world.settings))


@pytest.fixture(scope="module")
def second(world: World, first: Moment) -> Moment:
    """A build of more than a thousand later events, of which the lake holds the last cut twice."""
    events = sum(world.trade("pod1", 200) for _ in range(2)) + world.trade("pod2", 150)
    assert events > 1_000
    world.repeat_last_cut("pod1")
    return moment(world, build_warehouse(world.settings))


@pytest.fixture(scope="module")
def third(world: World, second: Moment) -> Moment:
    """A build of one cut of pod2 that holds one order, placed in another year and recorded only now."""
    late = Commerce(random.Random(7), now=world.commerce["pod2"].now - timedelta(days=400))
    late.merchants = world.commerce["pod2"].merchants[:1]
    world.cut("pod2", late.place())
    return moment(world, build_warehouse(world.settings))


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """What was stored before a build of everything from nothing, and that build."""

    before: dict[str, list[str]]
    after: dict[str, list[str]]
    moment: Moment


@pytest.fixture(scope="module")
def refreshed(world: World, third: Moment) -> Refreshed:
    """A build of everything from nothing."""
    before = world.stored()
    made = moment(world, build_warehouse(world.settings, full_refresh=True))
    return Refreshed(before=before, after=world.stored(), moment=made)


@pytest.fixture
def standing(world: World, refreshed: Refreshed) -> dict[str, list[str]]:
    """What is stored when the test begins; tests may come in any order, and some add events or leave a failed build."""
    newest = {pod: cut for pod, cut in world.rows("select pod, max(cut) from lake.raw.events group by pod")}
    if newest != refreshed.moment.result.cuts:
        assert build_warehouse(world.settings).is_complete
    return world.stored()


def test_two_pods_stand_at_their_own_cuts(first: Moment) -> None:
    assert first.result.cuts == {"pod1": 4, "pod2": 2}
    assert first.result.since_cuts == {"pod1": 0, "pod2": 0}


def test_marts_hold_what_the_pods_hold(world: World, third: Moment) -> None:
    with open_lake(world.settings, read_only=True) as lake:
        orders, payments, lines = (
            as_of(lake, mart, third.result.cuts).to_pylist() for mart in ("orders", "payments", "order_lines")
        )
    held = third.orders
    found = {row["order_id"]: tuple(row[name] for name in ORDER_COLUMNS) for row in orders}
    assert {order_id: values for order_id, values in found.items() if order_id in held} == held
    assert len(orders) == len(held) + 2  # the late one, and the one of the merchant who gives samples away
    found = {row["payment_id"]: (row["captured_minor"], row["refunded_minor"]) for row in payments}
    assert {key: values for key, values in found.items() if key in third.payments} == third.payments
    assert sum(row["order_id"] in held for row in lines) == third.lines


def test_queries_read_as_of_cuts_and_do_nothing_else(
    world: World, first: Moment, third: Moment, postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = by_reading_role(postgres, world.settings)
    for when, cuts in ((third, None), (first, first.result.cuts)):
        answer = ask(asking, "select count(*), sum(total_minor) from orders", cuts=cuts)
        assert answer.cuts == when.result.cuts
        assert answer.rows[0][0] == len(when.marts["orders"])
        newest = ask(asking, "select pod, max(cut) from events group by pod", cuts=cuts)
        assert sorted(newest.rows) == sorted(when.result.cuts.items())
    with pytest.raises(InputError, match="stands at cut"):
        ask(asking, "from orders", cuts={"pod1": 99})
    check_its_limits(asking)
    check_it_only_reads(asking, tmp_path, monkeypatch)
    assert ask(asking, "select count(*) from orders").rows == ((len(third.marts["orders"]),),)


def test_an_incremental_build_takes_new_events_only(first: Moment, second: Moment) -> None:
    assert second.result.since_cuts == first.result.cuts
    assert second.result.cuts == {"pod1": 6, "pod2": 3}


def test_old_reports_are_rebuilt_exactly_after_a_thousand_later_events(
    world: World, first: Moment, second: Moment, third: Moment
) -> None:
    for earlier in (first, second):
        assert world.marts(earlier.result.cuts) == earlier.marts
        for name, report in earlier.reports.items():
            again = read_report(world.settings, name, cuts=earlier.result.cuts)
            assert (again.rows, again.cuts, again.data_at) == (report.rows, report.cuts, report.data_at)
    assert first.reports["daily"].rows != second.reports["daily"].rows


def test_a_pod_that_is_not_named_shows_nothing(world: World, first: Moment) -> None:
    only = world.marts({"pod1": first.result.cuts["pod1"]})
    assert only["orders"] == [row for row in first.marts["orders"] if "'pod': 'pod1'" in row]
    assert only["trial_balance"] == [
        row for row in first.marts["trial_balance"] if "united-kingdom" in row or "france" in row
    ]


def test_events_that_the_lake_holds_twice_count_once(world: World, second: Moment) -> None:
    assert world.rows("select count(*) - count(distinct event_id) from lake.raw.events")[0][0] > 0  # type: ignore[operator]
    assert world.rows("select count(*) - count(distinct order_id) from lake.marts.orders") == [(0,)]
    assert world.rows("select count(*) - count(distinct (event_id, line_number)) from lake.marts.journal") == [(0,)]


def test_a_late_event_changes_its_own_keys_only(second: Moment, third: Moment) -> None:
    added = {mart: set(third.marts[mart]) - set(second.marts[mart]) for mart in third.marts}
    gone = {mart: set(second.marts[mart]) - set(third.marts[mart]) for mart in third.marts}

    assert len(added["orders"]) == 1 and not gone["orders"]
    assert len(added["daily_sales"]) == 1 and not gone["daily_sales"]
    (day,) = added["daily_sales"]
    assert "datetime.date(2025, " in day and "last_recorded_at': datetime.datetime(2026, " in day
    assert all("japan" in row for mart in ("trial_balance", "tax_by_jurisdiction") for row in added[mart] | gone[mart])
    untouched = (
        "refunds",
        "refund_lines",
        "adjustments",
        "merchants",
        "fulfillments",
        "entitlements",
        "merchant_payable",
    )
    assert not any(added[mart] | gone[mart] for mart in untouched)


def test_a_build_from_nothing_gives_the_same_rows(third: Moment, refreshed: Refreshed) -> None:
    assert refreshed.after == refreshed.before
    assert refreshed.moment.marts == third.marts


@pytest.mark.in_turn
def test_a_build_that_starts_earlier_takes_back_and_repeats(
    world: World, refreshed: Refreshed, standing: dict[str, list[str]]
) -> None:
    before, after = standing, refreshed.moment
    # dbt goes through no view while the lake has all of them as it made them; one that is gone is made again.
    with open_lake(world.settings) as connection:
        connection.execute("drop view lake.marts.orders")
    result = build_warehouse(world.settings, since={"pod1": 3, "pod2": 1})
    assert result.is_complete
    assert result.since_cuts == {"pod1": 3, "pod2": 1}
    assert world.stored() == before
    assert world.marts(after.result.cuts) == after.marts


@pytest.mark.in_turn(seconds=16)
@pytest.mark.parametrize(
    ("history", "column"), [("adjustments", "tax_minor"), ("orders", "valid_to_pod"), ("orders", "directory_epoch")]
)
def test_a_warehouse_from_before_a_column_was_added_is_computed_anew(
    world: World, refreshed: Refreshed, standing: dict[str, list[str]], history: str, column: str
) -> None:
    before, after = standing, refreshed.moment
    with open_lake(world.settings) as connection:
        connection.execute(f"alter table lake.intermediate.int_{history}_history drop column {column}")
    result = build_warehouse(world.settings)
    assert result.is_complete and set(result.since_cuts.values()) == {0}
    assert world.stored() == before
    assert world.marts(after.result.cuts) == after.marts


@pytest.mark.in_turn
def test_a_new_field_that_no_event_has_costs_nothing_but_its_column(
    world: World, refreshed: Refreshed, standing: dict[str, list[str]]
) -> None:
    before, after = standing, refreshed.moment
    with open_lake(world.settings) as connection:
        for history, column in (
            ("payments", "gift_card_id"),
            ("refunds", "gift_card_id"),
            ("products", "body"),
            ("merchants", "synonyms"),
        ):
            connection.execute(f"alter table lake.intermediate.int_{history}_history drop column {column}")
    result = build_warehouse(world.settings)
    assert result.is_complete and set(result.since_cuts.values()) != {0}
    assert world.stored() == before
    assert world.marts(after.result.cuts) == after.marts


@pytest.mark.long
def test_a_warehouse_that_lost_a_file_is_computed_anew(
    world: World, refreshed: Refreshed, standing: dict[str, list[str]]
) -> None:
    before, after = standing, refreshed.moment
    # Files of earlier builds lie there, too, until the next clean-up: all are lost. What is left out is judged by lines
    # that stand in orders.
    for name in ("int_orders_history", "int_payments_history"):
        for lost in Path(world.settings.lake_data_path, "intermediate", name).rglob("*.parquet"):
            lost.unlink()
    gone = ["intermediate.int_orders_history", "intermediate.int_payments_history"]
    assert lost_tables(lake_place(world.settings)) == gone
    result = build_warehouse(world.settings)
    assert result.is_complete and set(result.since_cuts.values()) == {0}
    assert lost_tables(lake_place(world.settings)) == []
    assert world.stored() == before
    assert world.marts(after.result.cuts) == after.marts


@pytest.mark.long
def test_a_build_whose_commit_was_not_answered_is_healed_by_the_next(
    world: World, refreshed: Refreshed, standing: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = standing, refreshed.moment
    with losing_way(world.settings.catalog_dsn) as way:
        # dbt commits by itself; what it writes can be computed again, so its files have no second names.
        environment = warehouse.dbt_environment(replace(world.settings, catalog_dsn=way.dsn))
        monkeypatch.setattr(warehouse, "dbt_environment", lambda _: environment)
        way.lose(writing="ducklake_data_file VALUES")
        failed = build_warehouse(world.settings, since={"pod1": 0, "pod2": 0})
        assert way.lost == 1 and not failed.is_built
        assert lost_tables(lake_place(world.settings)) != [], "the catalog names files that are gone"
        # In the same process, whose connection to the catalog has died: as a builder does that goes on.
        result = build_warehouse(world.settings)
    assert result.is_complete and set(result.since_cuts.values()) == {0}
    assert lost_tables(lake_place(world.settings)) == []
    assert world.stored() == before
    assert world.marts(after.result.cuts) == after.marts


def test_views_are_left_alone_while_each_is_as_dbt_made_it(world: World, third: Moment) -> None:
    names = {model["name"] for layer in ("staging", "marts") for model in properties(layer)}
    with open_lake(world.settings) as connection:
        assert set(unchanged_views(connection)) == names
        assert names <= {node.name for node in third.result.nodes}
        for change in ("comment on view lake.marts.orders is 'somebody else made it'", "drop view lake.marts.orders"):
            connection.execute("begin")
            connection.execute(change)
            assert unchanged_views(connection) == []
            connection.execute("rollback")


def test_orders_that_cost_nothing_count(world: World, first: Moment) -> None:
    gifts = world.rows("""select orders.order_id from lake.marts.orders anti join lake.marts.journal using (order_id)
                          where total_minor = 0""")
    assert len(gifts) >= 2
    orders = world.rows(
        "select merchant_id, order_date, currency, count(*) from lake.marts.orders group by all order by all"
    )
    assert orders == world.rows(
        """select merchant_id, sales_date, currency, order_count from lake.marts.daily_sales
           where order_count > 0 order by all"""
    )
    days = "select count(*) from lake.marts.daily_sales where order_count > 0 and placed_minor = 0"
    assert world.rows(days)[0][0] >= 2  # type: ignore[operator]


def test_the_level_of_an_entitlement_can_be_told_at_any_moment(world: World, first: Moment) -> None:
    mart = next(model for model in properties("marts") if model["name"] == "entitlements")
    formula = re.search(r"coalesce\(list_max.*\), 0\)", mart["description"], re.DOTALL)
    assert formula is not None
    level = formula.group(0).replace("moment", "timestamptz '2026-03-10 00:00:00+00'")
    levels = world.rows(f"select {level}, effective_level from lake.marts.entitlements where feature = 'early'")
    assert set(levels) == {(1, 3)}  # the best grant has expired, a lower one survives


def test_the_newest_build_is_known_without_the_clock(tmp_path: Path) -> None:
    connection = duckdb.connect()
    connection.execute(f"load '{extension_file('ducklake')}'")
    connection.execute(f"attach 'ducklake:{tmp_path / 'catalog'}' as lake (data_path '{tmp_path / 'files'}')")
    connection.execute(
        "create schema lake.raw; create table lake.raw.cuts (pod varchar, cut bigint, data_at timestamptz)"
    )
    connection.execute("create table lake.raw.parked (pod varchar, cut bigint)")
    connection.execute("create schema lake.builds")
    for statement in TABLES[1:]:
        connection.execute(statement)
    ids = iter([uuid.UUID(int=2), uuid.UUID(int=1)])  # the clock was set back between the two
    for cut in (1, 2):
        build = record_cut_vector(connection, cuts={"pod1": cut}, new_id=lambda: next(ids))
        record_completion(connection, build.build_id)
    latest = latest_build(connection)
    assert latest is not None and latest.cuts == {"pod1": 2}
    following = record_cut_vector(connection, cuts={"pod1": 3})
    assert following.pods["pod1"].since_cut == 2


def test_books_balance(world: World, third: Moment) -> None:
    assert world.rows("select event_id from lake.marts.journal group by 1 having sum(amount_micro) <> 0") == []
    assert (
        world.rows("select merchant_id from lake.marts.trial_balance group by 1 having sum(balance_micro) <> 0") == []
    )
    accounts = world.rows("select count(distinct account) from lake.marts.journal")
    assert accounts == [(12,)]  # every account is used, so none balances by being empty


def test_reports_refuse_what_they_cannot_answer(world: World, first: Moment) -> None:
    with pytest.raises(InputError, match="cannot answer as of cut 999"):
        read_report(world.settings, "daily", cuts={"pod1": 999})
    with pytest.raises(InputError, match="There is no report"):
        read_report(world.settings, "weekly")


def test_the_logic_of_the_models(world: World, first: Moment) -> None:
    nodes = node_runs(run_dbt(world.settings, ["test", "--select", "test_type:unit"]))
    outcomes = {node.name: node.status for node in nodes}
    assert len(outcomes) >= 5
    assert set(outcomes.values()) == {"pass"}, outcomes


def test_a_wrong_event_that_is_not_left_out_fails_the_build_and_no_report_reads_it(
    world: World, standing: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "leave_out", lambda *_, **__: [])
    before = latest(world)
    newest = read_report(world.settings, "daily")
    order = world.commerce["pod1"].place()[0][0]
    assert isinstance(order, OrderState)
    wrong = msgspec.structs.replace(order, total_minor=order.total_minor + 1)
    world.cut("pod1", [(wrong, "order_placed", world.commerce["pod1"].now)])

    result = build_warehouse(world.settings)

    assert not result.is_complete
    failed = {node.name: node for node in result.test_failures}
    wrong_total = failed["orders_total_is_lines_less_discount_plus_tax_and_shipping"]
    assert f"order_id={wrong.order_id}, " in wrong_total.keys and wrong_total.keys in wrong_total.sentence
    again = read_report(world.settings, "daily")
    assert (again.build_id, again.rows, again.cuts) == (newest.build_id, newest.rows, newest.cuts)
    assert latest(world) == before


def by_hand(world: World, command: str) -> tuple[Build, ByHand]:
    # dbt leaves its log file open until the process ends.
    arguments = [*command.split(), "--log-level-file", "none"]
    check_arguments(arguments)
    with locked_for(world.settings, arguments) as build:
        done = run_by_hand(world.settings, arguments, build)
    assert build is not None
    return build, done


def latest(world: World) -> CompleteBuild:
    with open_lake(world.settings, read_only=True) as connection:
        build = latest_build(connection)
    assert build is not None
    return build


@pytest.mark.in_turn(seconds=40)
def test_a_build_by_hand_is_complete_only_if_it_is_whole(world: World, standing: dict[str, list[str]]) -> None:
    before, report = latest(world), read_report(world.settings, "daily")
    with watching(world) as seen:
        begun = seen()
        _check_builds_by_hand(world, before, report)
        assert seen() == begun, "the lake's witness takes dbt for a stranger"


@contextmanager
def watching(world: World) -> Iterator[Callable[[], list[KeptSighting]]]:
    """Yield a function that lets the lake's witness look, and returns all sightings."""
    settings = world.settings
    migrate_sightings(settings.control_dsn)
    witness = LakeWitness(
        catalog_dsn=settings.catalog_dsn, control_dsn=settings.control_dsn, data_path=settings.lake_data_path
    )

    def seen() -> list[KeptSighting]:
        assert witness.look_once().trouble == ""
        return newest_sightings(settings.control_dsn)

    with closing(witness):
        yield seen


def _check_builds_by_hand(world: World, before: CompleteBuild, report: Report) -> None:
    world.trade("pod1", 20)

    # The orders alone go on to a cut that nothing else of the warehouse has: no report, and no build, stands there.
    partial, done = by_hand(world, "run -s int_orders_history daily_sales")
    assert done.exit_code == 0 and not done.is_complete and partial.cuts["pod1"] > before.cuts["pod1"]
    assert latest(world) == before
    assert read_report(world.settings, "daily").rows == report.rows

    whole, done = by_hand(world, "build")
    assert done == ByHand(exit_code=0, is_complete=True)
    assert {pod: entry.since_cut for pod, entry in whole.pods.items()} == before.cuts
    assert latest(world).build_id == whole.build_id
    assert (world.settings.var_dir / "dbt" / "by_hand" / "partial_parse.msgpack").exists()

    # What was built in two steps is what the pod holds.
    left_out = {one.aggregate_id for one in whole.left_out}
    held = {
        (order.order_id, order.version) for order in world.commerce["pod1"].orders if order.order_id not in left_out
    }
    assert held == set(world.rows("select order_id, version from lake.marts.orders where pod = 'pod1'"))


def test_columns_have_the_types_that_are_said(world: World, first: Moment) -> None:
    def parts(data_type: str) -> list[str]:
        """Return a type, or the fields of a structure with theirs, whose order says nothing."""
        return sorted(re.findall(r"\w[\w ]*\w", data_type.replace('"', "").lower().replace("struct(", "")))

    found = world.rows(
        """select schema_name || '.' || table_name, column_name, data_type from duckdb_columns()
           where database_name = 'lake' and schema_name in ('staging', 'intermediate', 'marts')"""
    )
    said = [
        (f"{layer}.{model['name']}", column["name"], " ".join(column["data_type"].split()))
        for layer in ("staging", "intermediate", "marts")
        for model in properties(layer)
        for column in model["columns"]
    ]
    stored, declared = ({(table, name): parts(str(kind)) for table, name, kind in rows} for rows in (found, said))
    assert stored == declared


def test_a_lake_that_was_never_built_has_no_reports(postgres: Cluster, tmp_path: Path) -> None:
    empty = World(postgres, tmp_path, SEED)
    empty.lake.close()
    with pytest.raises(WarehouseError, match="has not been built"):
        read_report(empty.settings, "daily")
