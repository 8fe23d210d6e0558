"""The finance reports as assets: read after a build, at its cuts; the asset's page shows their certificate.

No schedule closes a month: people do it (`tieout close`), and the digest tells them when it is possible.

Belongs here: assets of reports. Does not belong here: reports and certificates themselves (`finance/`).
"""

from collections.abc import Mapping
from datetime import date, datetime

import dagster as dg
from dagster import AssetExecutionContext

from assets.graph import FINANCE_OWNERS, mart_key
from assets.platform import PLATFORM, platform_of
from contracts.text import cuts_text
from derived.reports import REPORTS, Report
from finance.statement import Statement

ROWS_SHOWN_MAX = 100

DESCRIPTIONS: Mapping[str, str] = {
    "daily": "Sales, discounts, tax, captures and refunds per merchant, currency and business day.",
    "merchant-payable": "What is owed to each merchant.",
    "tax": "Tax per merchant, month, jurisdiction and category.",
    "trial-balance": "Every account of the journal per merchant and currency; sums to zero.",
}


def report_key(name: str) -> dg.AssetKey:
    """Return the key of a report."""
    return dg.AssetKey(["finance", name.replace("-", "_")])


def cell(value: object) -> str | int | None:
    """Return a value in a type that Dagster's tables accept."""
    if value is None or type(value) is int:
        return value
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def shown(report: Report) -> dg.TableMetadataValue:
    """Return the first rows of a report."""
    rows = [
        dg.TableRecord({name: cell(value) for name, value in zip(report.columns, row, strict=True)})
        for row in report.rows[:ROWS_SHOWN_MAX]
    ]
    return dg.MetadataValue.table(rows, schema=dg.TableSchema([dg.TableColumn(name) for name in report.columns]))


def certified(statement: Statement) -> dict[str, dg.MetadataValue]:
    """Return a report and its certificate as asset metadata; unknown numbers are left out."""
    report, certificate = statement.report, statement.certificate
    breaks = {"breaks_unsettled": certificate.breaks_unsettled, "breaks_accepted": certificate.breaks_accepted}
    return {
        "conclusion": dg.MetadataValue.text(certificate.conclusion),
        "cuts": dg.MetadataValue.text(cuts_text(report.cuts)),
        "content_sha256": dg.MetadataValue.text(certificate.content_sha256),
        "rows": dg.MetadataValue.int(len(report.rows)),
        **{label: dg.MetadataValue.int(number) for label, number in breaks.items() if number is not None},
        "build_id": dg.MetadataValue.text(report.build_id),
        "report": shown(report),
        "certificate": dg.MetadataValue.json(certificate.as_json()),
    }


def report_asset(name: str) -> dg.AssetsDefinition:
    """Return the asset of one report."""
    mart = REPORTS[name][0]

    @dg.asset(
        key=report_key(name),
        deps=[mart_key(mart)],
        group_name="finance",
        owners=FINANCE_OWNERS,
        kinds={"report"},
        description=f"{DESCRIPTIONS[name]} Also: `tieout report {name}`.",
        required_resource_keys={PLATFORM},
    )
    def report(context: AssetExecutionContext) -> dg.MaterializeResult[None]:
        statement = platform_of(context).report(name)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(statement.certificate.content_sha256), metadata=certified(statement)
        )

    return report


finance_reports = [report_asset(name) for name in REPORTS]
"""The assets of all reports."""
