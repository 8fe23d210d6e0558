"""The real webserver and daemon, driven through GraphQL as the pages do: materialize, check, see it pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.pages import Pages, running_pages
from contracts.settings import Settings
from stack.migrations import migrate_everything
from tests.integration.reconcile_world import open_shops

NODES = "query { assetNodes { assetKey { path } groupName owners { ... on TeamAssetOwner { team } } kinds } }"


@pytest.fixture
def pages(settings: Settings, tmp_path: Path) -> Iterator[Pages]:
    migrate_everything(settings)
    with running_pages(settings, tmp_path) as made:
        yield made


@pytest.mark.timeout(900)
def test_materialize_check_and_see_it_pass(settings: Settings, pages: Pages) -> None:
    with open_shops(settings) as shops:
        for shop in shops:
            shop.everything()
    pages.until("the code locations did not load", pages.is_up)

    nodes = {"/".join(node["assetKey"]["path"]): node for node in pages.ask(NODES)["assetNodes"]}
    assert {"oltp/order", "outbox/pod1", "log/pod2", "lake/events", "marts/journal", "finance/daily"} <= set(nodes)
    assert all(node["groupName"] and node["owners"] for node in nodes.values())

    for pod in ("pod1", "pod2"):
        tags = [{"key": "dagster/partition", "value": pod}]
        pages.run(f"drain_{pod}", executionMetadata={"tags": tags})

    wanted = ("oltp_lake__order", "oltp_lake__payment", "log_manifests")
    selection = [{"assetKey": {"path": ["lake", "events"]}, "name": name} for name in wanted]
    pages.run("reconciliation", selector={"assetSelection": [], "assetCheckSelection": selection})
    found = pages.checks("lake", "events")
    assert {name: found[name] for name in wanted} == dict.fromkeys(wanted, "SUCCEEDED")
