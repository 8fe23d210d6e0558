"""What a finance report's page in Dagster says: the certificate, and nothing where nothing is known."""

from __future__ import annotations

from types import SimpleNamespace

import dagster as dg

from assets.finance import report_asset
from assets.platform import PLATFORM
from finance.statement import Statement
from tests.unit.finance.test_files import REPORT, proof, statement


def materialized(made: Statement) -> dg.AssetMaterialization:
    asked: list[str] = []

    def report(name: str) -> Statement:
        asked.append(name)
        return made

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [report_asset("daily")], instance=instance, resources={PLATFORM: SimpleNamespace(report=report)}
        )
    (event,) = result.asset_materializations_for_node("finance__daily")
    assert asked == ["daily"]
    return event


def test_a_report_carries_its_certificate() -> None:
    made = statement(evidence=proof(REPORT.cuts))
    event = materialized(made)
    shown = {name: value.value for name, value in event.metadata.items()}
    assert shown["content_sha256"] == made.certificate.content_sha256
    assert str(shown["conclusion"]).startswith("Ties: ")
    assert (shown["cuts"], shown["rows"]) == ("pod1:7,pod2:4", 3)
    assert (shown["breaks_unsettled"], shown["breaks_accepted"]) == (0, 0)
    assert event.tags is not None and event.tags["dagster/data_version"] == made.certificate.content_sha256


def test_what_is_not_known_is_not_shown_as_nothing() -> None:
    shown = materialized(statement()).metadata
    assert "breaks_unsettled" not in shown and "breaks_accepted" not in shown
