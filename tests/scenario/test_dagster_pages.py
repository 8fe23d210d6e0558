"""The real webserver and daemon, driven through GraphQL as the pages do: materialize, check, see it repaired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest

from bench.pages import Pages, running_pages
from bench.repair_ways import run_round
from bench.repairs_dagster import Dagster
from checks.quality import OLTP, STORES, asset_of, check_name
from contracts.runs import FOUND_BY_TAG, GROUPS_TAG, REPAIR_TAG
from contracts.settings import Settings
from derived.warehouse import build_warehouse
from drills.damages.account_view import ROWS
from drills.damages.place import Round
from repair import ledger
from stack.composition.draining import propagating
from stack.composition.migrations import migrate_everything
from tests.integration.reconcile_world import open_shops, propagate

PODS = ("pod1", "pod2")
LAKE, REFUNDS = ("lake", "events"), ("marts", "refunds")
FINANCE_CHECK = "operational_finance__refunds"
COPIES = (("lake", "events"), ("read_models", "account_view"), ("read_models", "fulfillment_view"))
NODES = "query { assetNodes { assetKey { path } groupName owners { ... on TeamAssetOwner { team } } kinds } }"


@pytest.fixture
def pages(settings: Settings, tmp_path: Path) -> Iterator[Pages]:
    migrate_everything(settings)
    with running_pages(settings, tmp_path) as made:
        yield made


@pytest.mark.in_turn("system", seconds=90)
@pytest.mark.timeout(900)
def test_a_mart_is_launched_with_its_checks_and_a_damaged_row_is_repaired(settings: Settings, pages: Pages) -> None:
    begin(settings, pages)
    pages.switch_schedules_off()  # each run is a process that takes twenty seconds of CPU
    for pod in settings.pods:
        propagate(settings, pod, ("lake",))
    assert build_warehouse(settings).is_complete
    assert mart_launched(pages) == [True, True, True], "its dbt test, its comparison and its suite"
    damaged_and_repaired(settings, pages)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_suites_begin_by_themselves_and_everything_else_that_a_person_launches_succeeds(
    settings: Settings, pages: Pages
) -> None:
    begin(settings, pages)
    suites_began_by_themselves(pages)
    drained_and_copied(settings, pages)
    assert checks_launched(pages, LAKE, "oltp_lake__payment", "log_manifests") == [True, True]
    assert checks_launched(pages, REFUNDS, FINANCE_CHECK) == [True]
    run, status = pages.ended("repair_pod2")
    assert status == "SUCCESS", run


def begin(settings: Settings, pages: Pages) -> None:
    """Trade in both pods, and wait until the pages show the graph."""
    with open_shops(settings) as shops:
        for shop in shops:
            shop.everything()
    pages.until("the code location did not load", pages.is_up)
    nodes = {"/".join(node["assetKey"]["path"]): node for node in pages.ask(NODES)["assetNodes"]}
    assert {
        "oltp/order",
        "propagation/outbox",
        "propagation/log",
        "lake/events",
        "marts/journal",
        "finance/daily",
    } <= set(nodes)
    assert all(node["groupName"] and node["owners"] for node in nodes.values())


def suites_began_by_themselves(pages: Pages) -> None:
    """The suites over OLTP were run without being asked, met in both pods, and their checks link their pages."""
    checks = [(suite, asset_of(OLTP, suite).path, check_name(suite)) for suite in STORES[OLTP]]
    pages.until(
        "no suite was run by itself",
        lambda: all(pages.evaluations(path, name) for _, path, name in checks),
    )
    for suite, path, name in checks:
        newest = pages.evaluations(path, name)[0]
        assert newest.success and newest.metadata["met"] == len(suite.expectations) * 2, (suite.name, newest)
        for pod in ("pod1", "pod2"):
            page = Path(url2pathname(urlparse(newest.metadata[f"data_docs_{pod}"]).path))
            assert suite.expectations[-1].statement in unescape(page.read_text())


def drained_and_copied(settings: Settings, pages: Pages) -> None:
    """The outbox, the log and all copies of both pods are backfilled beside running relays; one pod is drained."""
    # Beside a running relay a drain waits until that one has passed.
    with propagating(settings):
        backfill = pages.backfill([("propagation", "outbox"), ("propagation", "log"), *COPIES], PODS)
    drained = pages.runs(**{"dagster/backfill": backfill})
    assert {run["tags"]["dagster/partition"]: run["status"] for run in drained} == dict.fromkeys(PODS, "SUCCESS")
    pages.run("drain", executionMetadata={"tags": [{"key": "dagster/partition", "value": "pod1"}]})


def checks_launched(pages: Pages, path: tuple[str, str], *names: str) -> list[bool]:
    """Execute checks from their asset's page; return whether each passed."""
    return passed(pages, path, names, pages.check(path, *names))


def mart_launched(pages: Pages) -> list[bool]:
    """Materialize one mart from its page; return whether each check that is launched with it passed."""
    names = ("refunds_tie_to_their_lines", FINANCE_CHECK, "expectations_refunds")
    return passed(pages, REFUNDS, names, pages.materialize(REFUNDS))


def passed(pages: Pages, path: tuple[str, str], names: Sequence[str], run: str) -> list[bool]:
    """Return what each check found in this run: a scheduled one may have looked since."""
    return [one.success for name in names for one in pages.evaluations(path, name) if one.run_id == run]


def damaged_and_repaired(settings: Settings, pages: Pages) -> None:
    """A row of a view is damaged; the check fails, the sensor repairs, the check passes: nobody touches anything."""
    dagster = Dagster(settings=settings, pages=pages)
    (outcome,) = run_round(dagster, settings, Round(name="a row", cells=(ROWS[0],), families=("lake_account_view",)))
    assert outcome.is_expected and outcome.outcome == "repaired", outcome
    assert dagster.broken_chains == []
    assert len(dagster.chains) == 1

    (item,) = ledger.breaks(settings.control_dsn)
    (run,) = pages.runs(**{REPAIR_TAG: item.pod, GROUPS_TAG: str(item.group_id)})
    # A scheduled run may look at any time, too.
    seen = {one.run_id: one for one in pages.evaluations(("read_models", "account_view"), "lake_account_view")}
    green, failed = seen[run["runId"]], seen[run["tags"][FOUND_BY_TAG]]
    assert not failed.success and failed.metadata["break_groups"].startswith(f"{item.group_id} (1 key missing)")
    assert run["status"] == "SUCCESS" and green.success
    assert {"repaired_by", "found_by"} <= green.links
    assert (green.metadata["repaired_by"], green.metadata["found_by"]) == (run["runId"], failed.run_id)
