"""Everything that asks a server, on the versions of PostgreSQL before the embedded one."""

from __future__ import annotations

import psycopg
import pytest

from checks.quality import OLTP, STORES, run_suites
from contracts.settings import Settings
from contracts.verdicts import Verdict
from orchestration.resources import build_platform
from reconcile.comparison_run import run_pairs
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.composition.projections import PROJECTIONS
from stack.looking.headroom import limit_uses
from stack.servers.versions import check_versions, version_problem
from streams.outbox_reading import observe_outbox
from tests.integration.reconcile_world import VIEW_PAIRS, carrying, open_shops

COPIES = PROJECTIONS
PAIRS = (
    "stock_identity",
    "outbox_log",
    "log_manifests",
    "oltp_lake",
    *VIEW_PAIRS,
)


@pytest.mark.in_turn("stores", seconds=25)
def test_commands_a_cut_an_apply_and_a_comparison(settings: Settings) -> None:
    check_versions(settings)
    for _ in range(2):
        migrate_everything(settings)
    with psycopg.connect(settings.pods[0].owner_dsn) as connection:
        assert version_problem(connection.info.server_version) is None
        assert connection.info.server_version < 180_000
    with open_shops(settings) as shops:
        for shop in shops:
            shop.everything()
    drained = drain_everything(settings)
    assert all(pod.events_published > 30 and not any(pod.parked.values()) for pod in drained)

    context = carrying(build_reconcile_context(settings, lag_seconds_max=10), settings, COPIES)
    results = run_pairs(context, PAIRS, ["pod1", "pod2"])
    assert {result.verdict for result in results} == {Verdict.CONSISTENT}
    assert sum(result.compared for result in results) > 100
    assert observe_outbox(settings.pods[0].reader_dsn, 0, counted_max=10).unpublished_events == 10
    assert [use.limit for use in limit_uses(settings) if use.unit == "connections"]

    judged = [judgement for _, _, judgement in run_suites(build_platform(settings), {OLTP: STORES[OLTP]}, "run")]
    assert len(judged) == 2 * len(STORES[OLTP])
    assert [(one.suite, one.unknown, one.findings) for one in judged if one.unknown or one.findings] == []
