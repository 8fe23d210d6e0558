"""The real webserver and daemon, driven through GraphQL as the pages do: materialize, check, see it repaired."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest

from bench.damage_place import Round
from bench.damages import VIEW_CELLS
from bench.pages import Pages, running_pages
from bench.repairs import run_round
from bench.repairs_dagster import Dagster
from checks.quality import OLTP, STORES, asset_of, check_name
from contracts.runs import FOUND_BY_TAG, GROUPS_TAG, REPAIR_TAG
from contracts.settings import Settings
from repair import ledger
from stack.migrations import migrate_everything
from stack.propagation import propagating
from tests.integration.reconcile_world import open_shops

PODS = ("pod1", "pod2")
COPIES = (("lake", "events"), ("read_models", "account_view"), ("read_models", "fulfillment_view"))
NODES = "query { assetNodes { assetKey { path } groupName owners { ... on TeamAssetOwner { team } } kinds } }"


@pytest.fixture
def pages(settings: Settings, tmp_path: Path) -> Iterator[Pages]:
    migrate_everything(settings)
    with running_pages(settings, tmp_path) as made:
        yield made


@pytest.mark.timeout(900)
def test_suites_begin_by_themselves_what_is_launched_succeeds_and_damage_is_repaired(
    settings: Settings, pages: Pages
) -> None:
    with open_shops(settings) as shops:
        for shop in shops:
            shop.everything()
    pages.until("the code locations did not load", pages.is_up)

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

    suites_began_by_themselves(pages)
    launched_by_hand(settings, pages)
    damaged_and_repaired(settings, pages)


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


def launched_by_hand(settings: Settings, pages: Pages) -> None:
    """What a person starts from the pages: pods drained, single checks, a finance check, a mart, a repair."""
    # Beside a running relay a drain waits until that one has passed.
    with propagating(settings):
        backfill = pages.backfill([("propagation", "outbox"), ("propagation", "log"), *COPIES], PODS)
    drained = pages.runs(**{"dagster/backfill": backfill})
    assert {run["tags"]["dagster/partition"]: run["status"] for run in drained} == dict.fromkeys(PODS, "SUCCESS")
    pages.run("drain", executionMetadata={"tags": [{"key": "dagster/partition", "value": "pod1"}]})

    lake, refunds = ("lake", "events"), ("marts", "refunds")
    wanted = [(lake, name) for name in ("oltp_lake__order", "oltp_lake__payment", "log_manifests")]
    wanted.append((refunds, "operational_finance__refunds"))
    selection = [{"assetKey": {"path": path}, "name": name} for path, name in wanted]
    run = pages.run("reconciliation", selector={"assetSelection": [], "assetCheckSelection": selection})
    for path, name in wanted:
        # A scheduled run may have looked since.
        assert [found.success for found in pages.evaluations(path, name) if found.run_id == run] == [True], name

    mart = {"assetSelection": [{"path": ["marts", "refunds"]}], "assetCheckSelection": []}
    pages.run("__ASSET_JOB", location="warehouse", selector=mart)
    pages.run("repair_pod2")


def damaged_and_repaired(settings: Settings, pages: Pages) -> None:
    """A row of a view is damaged; the check fails, the sensor repairs, the check passes: nobody touches anything."""
    dagster = Dagster(settings=settings, pages=pages)
    (outcome,) = run_round(
        dagster, settings, Round(name="a row", cells=(VIEW_CELLS[0],), families=("lake_account_view",))
    )
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
