"""Suites of expectations over real pods and a built warehouse: they hold, they fail with keys, they cannot look.

One module, in one group: importing Great Expectations takes ten seconds, once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from assets.platform import Platform
from checks.expectations import oltp, oltp_money
from checks.expectations.declared import Suite
from checks.expectations.judgement import Judgement, load_judge
from checks.quality import MARTS, OLTP, STORES, check_spec, looked_at, results, run_suites
from contracts.clock import utc_now
from contracts.settings import Settings
from derived.lake_connection import open_lake
from derived.warehouse import build_warehouse
from orchestration.definitions import build_definitions
from orchestration.resources import build_platform
from repair.alerts.deciding import AlertKind
from repair.alerts.queue import latest_alerts
from repair.alerts.unmet import NOT_LOOKED_AT, record, unmet
from stack.processes.data_docs import write_data_docs_site
from tests.integration.reconcile_world import fill, propagate

pytestmark = pytest.mark.timeout(400)

SUITES = {f"{store}.{suite.name}": (store, suite) for store, suites in STORES.items() for suite in suites}


@pytest.fixture
def traded(settings: Settings) -> Settings:
    """Two pods in which everything was done that can be done."""
    fill(settings)
    return settings


def judged(
    platform: Platform, *names: str, run: str = "run", pods: Collection[str] | None = None
) -> dict[str, Judgement]:
    """Run suites; judgements by `suite@pod`."""
    wanted: dict[str, list[Suite]] = {OLTP: [], MARTS: []}
    for name in names:
        store, suite = SUITES[name]
        wanted[store].append(suite)
    return {f"{item.suite}@{item.pod}": item for _, _, item in run_suites(platform, wanted, run, pods)}


def unmet_of(judgement: Judgement) -> Mapping[str, tuple[str, ...]]:
    assert judgement.unknown == ()
    return {finding.expectation: finding.keys for finding in judgement.findings}


def change(settings: Settings, statement: str) -> str:
    """Change one row of pod1 behind the triggers' and constraints' back; return its key."""
    with psycopg.connect(settings.pods[0].owner_dsn) as connection:
        table = statement.split()[1]
        connection.execute(f"alter table {table} disable trigger user".encode())
        rows = connection.execute(statement.encode()).fetchall()
        connection.execute(f"alter table {table} enable trigger user".encode())
    assert len(rows) == 1
    return str(rows[0][0])


def test_every_suite_holds_and_has_its_page(traded: Settings) -> None:
    for pod in traded.pods:
        propagate(traded, pod, ("lake",))
    assert build_warehouse(traded).is_complete
    write_data_docs_site(traded, 3001)
    definitions = build_definitions(traded)
    with dg.DagsterInstance.ephemeral() as instance:
        run = definitions.resolve_job_def("expectations").execute_in_process(instance=instance)
    found = {item.check_name: item for item in run.get_asset_check_evaluations() if "marts" in item.asset_key.path}
    found |= {
        f"oltp {item.check_name}": item for item in run.get_asset_check_evaluations() if "oltp" in item.asset_key.path
    }
    assert len(found) == len(SUITES) == 18
    assert {name: item.description for name, item in found.items() if not item.passed} == {}
    for item in found.values():
        assert item.metadata["met"].value == item.metadata["expectations"].value
        assert item.metadata["unmet"].value == 0
    url = found["expectations_journal"].metadata["data_docs_pod2"].value
    assert isinstance(url, str) and url.startswith("http://127.0.0.1:3001/validations/marts/journal/pod2/")
    site = traded.data_docs_dir / "site"
    page = (site / url.partition("3001/")[2]).read_text()
    assert "The entries of an event sum to zero" in page and (site / "index.html").read_text().count("journal") >= 2
    assert not any(word in page for word in ("<script", "https://", "http://"))
    # What Great Expectations writes holds no address of a server.
    passwords = [pod.reader_dsn.partition("//")[2].partition("@")[0] for pod in traded.pods]
    written = [path.read_text() for path in traded.data_docs_dir.rglob("*.*") if path.suffix in (".html", ".json")]
    assert len(written) > 2 * 2 * len(SUITES) and not any(word in text for text in written for word in passwords)
    assert unmet(traded.control_dsn) == [] and latest_alerts(traded.control_dsn) == []

    # A mart that was edited: its history in the lake, behind dbt's back.
    with open_lake(traded) as lake:
        order = lake.execute("select min(order_id) from lake.marts.orders where pod = 'pod1'").fetchall()[0][0]
        lake.execute(
            "update lake.intermediate.int_orders_history set total_minor = total_minor + 1, status = 'lost' "
            "where order_id = ? and valid_to_cut is null",
            [order],
        )
    edited = judged(build_platform(traded), "marts.orders", "marts.order_lines", pods=["pod1"])
    assert unmet_of(edited["marts.orders@pod1"]) == {"status_is_known": (order,), "total_is_its_parts": (order,)}
    assert unmet_of(edited["marts.order_lines@pod1"]) == {"totals_are_those_of_the_order": (order,)}
    assert "lost" in (site / edited["marts.orders@pod1"].page).read_text()


def test_damage_is_named_told_once_and_told_when_it_is_over(traded: Settings) -> None:
    platform, control_dsn = build_platform(traded), traded.control_dsn
    now = utc_now()

    def look(minutes: int) -> dict[str, Judgement]:
        found = judged(platform, "oltp.order_lines", "oltp.payments", run=f"run{minutes}", pods=["pod1"])
        looked = [looked_at(item, "http://docs") for item in found.values()]
        record(control_dsn, looked, run=f"run{minutes}", now=now + timedelta(minutes=minutes))
        return found

    line = change(
        traded,
        "update oltp.order_tax_lines set tax_minor = tax_minor + 2, taxable_minor = taxable_minor - 2 where "
        "order_line_id = (select order_line_id from oltp.order_tax_lines where tax_minor > 0 limit 1) "
        "returning order_line_id",
    )
    payment = change(
        traded,
        "update oltp.payments set currency = 'JPY' where payment_id = (select min(payment_id::text)::uuid from "
        "oltp.payments) returning payment_id",
    )
    found = look(1)
    assert unmet_of(found["oltp.order_lines@pod1"]) == {"tax_is_what_its_rate_gives": (line,)}
    assert unmet_of(found["oltp.payments@pod1"]) == {"belongs_to_its_order": (payment,)}
    (failed,) = results([(*SUITES["oltp.payments"], found["oltp.payments@pod1"])], "http://docs")
    assert not failed.passed and failed.severity is dg.AssetCheckSeverity.ERROR
    assert failed.metadata["rows_found"].value == 1 and "belongs_to_its_order" in str(failed.description)

    look(2)
    (message,) = latest_alerts(control_dsn)
    assert message.kind is AlertKind.UNMET and "2 expectations do not hold" in message.title
    assert line in message.body and payment in message.body and "docs/runbooks/expectations.md" in message.body
    assert [row.times_seen for row in unmet(control_dsn)] == [2, 2]

    change(traded, f"update oltp.payments set currency = 'GBP' where payment_id = '{payment}' returning payment_id")
    look(3)
    assert [row.expectation for row in unmet(control_dsn)] == ["tax_is_what_its_rate_gives"]
    over, first = latest_alerts(control_dsn)
    assert over.kind is AlertKind.MET and "belongs_to_its_order" in over.body and first == message


def test_a_suite_that_cannot_look_is_neither_met_nor_unmet_and_told_when_it_lasts(traded: Settings) -> None:
    platform, control_dsn = build_platform(traded), traded.control_dsn
    with psycopg.connect(traded.pods[0].owner_dsn) as connection:
        connection.execute("alter table oltp.refund_lines rename to hidden")
    now = utc_now()
    for minutes in (1, 2, 3):
        found = judged(platform, "oltp.refunds", "oltp.merchants", "marts.journal", run=f"run{minutes}")
        looked = [looked_at(item, "http://docs") for item in found.values()]
        record(control_dsn, looked, run=f"run{minutes}", now=now + timedelta(minutes=minutes))
        assert len(latest_alerts(control_dsn)) == (0 if minutes == 1 else 1)
    refunds = found["oltp.refunds@pod1"]
    assert not refunds.findings and len(refunds.unknown) == 1 and "refund_lines" in refunds.unknown[0]
    assert refunds.met == refunds.expectations - 1 and found["oltp.refunds@pod2"].met == refunds.expectations
    assert found["oltp.merchants@pod1"].met == found["oltp.merchants@pod1"].expectations
    journal = found["marts.journal@pod1"]
    assert not journal.findings and "not been built" in journal.unknown[0] and journal.met == journal.expectations - 1
    everything = [(*SUITES[item.suite], item) for item in found.values()]
    assert {item.check_name for item in results(everything, "http://docs")} == {"expectations_merchants"}
    (told,) = latest_alerts(control_dsn)
    assert "oltp.refunds in pod1 could not be looked at 2 times" in told.body
    assert {row.expectation for row in unmet(control_dsn)} == {NOT_LOOKED_AT}

    # In Dagster the execution fails: the check's last answer stays as it was, and no new one is made up.
    key = check_spec(OLTP, oltp_money.REFUNDS).key
    job = build_definitions(traded).resolve_job_def("expectations").get_subset(asset_check_selection={key})
    with dg.DagsterInstance.ephemeral() as instance:
        run = job.execute_in_process(instance=instance, raise_on_error=False)
        assert not run.success and list(run.get_asset_check_evaluations()) == []


def test_all_suites_of_a_pod_read_one_snapshot(traded: Settings, tmp_path: Path) -> None:
    pod, context = traded.pods[0], build_platform(traded).reconcile_context()
    judge = load_judge().Judge(tmp_path, utc_now(), "run")
    with (
        context.take_cut(pod.pod) as cut,
        judge.pod_rows(pod.pod, cut.cut, pod.reader_dsn, cut.exported_snapshot) as rows,
    ):
        assert judge.judge(OLTP, oltp.MERCHANTS, rows).findings == ()
        change(
            traded,
            "update oltp.stock_slots set on_hand = on_hand + 1 where variant_id = "
            "(select min(variant_id::text)::uuid from oltp.stock_levels) returning variant_id",
        )
        assert judge.judge(OLTP, oltp.STOCK, rows).findings == ()
    later = load_judge().Judge(tmp_path, utc_now(), "later")
    with (
        context.take_cut(pod.pod) as cut,
        later.pod_rows(pod.pod, cut.cut, pod.reader_dsn, cut.exported_snapshot) as rows,
    ):
        found = later.judge(OLTP, oltp.STOCK, rows).findings
        assert [finding.expectation for finding in found] == ["on_hand_is_the_sum_of_movements"]
