"""Running suites with Great Expectations: judgements as values, and the pages (Data Docs) that show them.

Importing this module takes ten seconds, because Great Expectations does; only `load_judge` imports it.

In PostgreSQL, Great Expectations runs its own queries, all suites of a pod in one exported snapshot. In DuckDB it
cannot (through SQLAlchemy it fetches rows after the connection is closed), so the same declarations run as SQL on a
connection of ours. The results are counts and a bounded sample of keys, as integers and texts. No column becomes a data
frame, because a missing value would turn its integers into floats.

Belongs here: Great Expectations. Does not belong here: suites (`oltp.py`, `marts.py`), the pages' folder (`pages.py`),
what a judgement means for people (`checks/quality.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
import sqlalchemy as sa
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.query_metric_provider import QueryMetricProvider
from great_expectations.render import RenderedTableContent
from great_expectations.render.components import LegacyDiagnosticRendererType
from great_expectations.render.renderer.renderer import renderer

from checks.expectations.declared import Expectation, Suite
from checks.expectations.judgement import KEYS_SHOWN, Finding, Judgement
from checks.expectations.pages import PAGES, RESULTS
from reconcile.oltp_side import set_snapshot

ASKED_TABLE, ASKED_COUNT = "unexpected_rows_query.table", "unexpected_rows_query.row_count"
BATCH = "{batch}"
"""Great Expectations' placeholder for the table that a suite is run over."""


class ExpectNoRows(gxe.UnexpectedRowsExpectation):  # type: ignore[misc]
    """The query for the rows that break the rule returns none; a bounded sample of its rows is kept and shown."""

    def _validate(self, metrics: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        rows, count = metrics[ASKED_TABLE], metrics[ASKED_COUNT]
        shown = [{name: str(value) for name, value in row.items()} for row in rows[:KEYS_SHOWN]]
        return {"success": count == 0, "result": {"observed_value": count, "details": {"unexpected_rows": shown}}}

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.UNEXPECTED_TABLE)  # type: ignore[untyped-decorator]
    def _rows_table(cls, configuration: Any = None, result: Any = None, **_: Any) -> list[Any] | None:
        rows = result.result.get("details", {}).get("unexpected_rows", []) if result else []
        if not rows:
            return None
        table = {
            "content_block_type": "table",
            "table": [list(row.values()) for row in rows],
            "header_row": list(rows[0]),
            "styling": {"body": {"classes": ["table-bordered", "table-sm", "mt-3"]}},
        }
        return [RenderedTableContent(**table)]


class _Marts:
    """Rows of marts; each query runs once. A result with few rows is counted without a second query."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return at most KEYS_SHOWN + 1 rows of a query."""
        if query not in self._rows:
            found = self._connection.execute(f"{query} limit {KEYS_SHOWN + 1}")
            names = [column[0] for column in found.description]
            self._rows[query] = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        return self._rows[query]

    def count(self, query: str) -> int:
        """Return how many rows a query returns."""
        few = self.rows(query)
        if len(few) <= KEYS_SHOWN:
            return len(few)
        return int(self._connection.execute(f"select count(*) from ({query})").fetchall()[0][0])


_marts: ContextVar[_Marts] = ContextVar("marts")


class _RowsInDuckdb(QueryMetricProvider):  # type: ignore[misc]
    """The rows that a query returns in DuckDB; the batch only names the table, it holds no rows."""

    metric_name = ASKED_TABLE
    value_keys = ("unexpected_rows_query",)

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, **asked: Any) -> list[dict[str, Any]]:  # noqa: N805
        return _marts.get().rows(_query(**asked))


class _CountInDuckdb(QueryMetricProvider):  # type: ignore[misc]
    """How many rows a query returns in DuckDB."""

    metric_name = ASKED_COUNT
    value_keys = ("unexpected_rows_query",)

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, **asked: Any) -> int:  # noqa: N805
        return _marts.get().count(_query(**asked))


def _query(execution_engine: Any, metric_domain_kwargs: Any, metric_value_kwargs: Any, **_: Any) -> str:
    looked_at = execution_engine.get_domain_records(metric_domain_kwargs)["looked_at"].iloc[0]
    return str(metric_value_kwargs["unexpected_rows_query"]).replace(BATCH, looked_at)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where the rows of a pod's suites are, and the data asset that Great Expectations uses for them."""

    pod: str
    cut: int
    batch: Callable[[Suite], tuple[Any, dict[str, Any] | None]]
    """Suite -> (its batch definition, the parameters that it is run with)."""
    is_native: bool
    """Whether Great Expectations runs its own queries."""


class Judge:
    """One run of suites: their judgements, and a page for each in the folder of Data Docs."""

    def __init__(self, folder: Path, started_at: datetime, run: str) -> None:
        self._run = RunIdentifier(run_name=run, run_time=started_at)
        self._context = gx.get_context(mode="ephemeral", project_config=_project(folder))

    @contextmanager
    def pod_rows(self, pod: str, cut: int, dsn: str, exported_snapshot: str) -> Iterator[Rows]:
        """Give the tables of a pod as of the exported snapshot, which must stay open meanwhile."""
        variable = f"TIEOUT_EXPECTATIONS_{pod.upper()}_DSN"
        # Give Great Expectations only the variable's name: it may write down the text that it is given.
        os.environ[variable] = dsn.replace("postgresql://", "postgresql+psycopg://", 1)
        source = self._context.data_sources.add_postgres(f"oltp_{pod}", connection_string=f"${{{variable}}}")
        asking = source.get_execution_engine().engine
        sa.event.listen(asking, "begin", lambda connection: _enter(connection, exported_snapshot))

        def batch(suite: Suite) -> tuple[Any, None]:
            schema, _, table = suite.table.partition(".")
            asset = source.add_table_asset(suite.name, table_name=table, schema_name=schema)
            return asset.add_batch_definition_whole_table("all"), None

        try:
            yield Rows(pod=pod, cut=cut, batch=batch, is_native=True)
        finally:
            # Both have connections: the second engine checks that tables exist.
            for engine in (asking, source.get_engine()):
                engine.dispose()
            del os.environ[variable]

    @contextmanager
    def mart_rows(self, pod: str, cut: int, connection: duckdb.DuckDBPyConnection) -> Iterator[Rows]:
        """Give the marts as `connection` shows them."""
        source = self._context.data_sources.add_pandas(f"marts_{pod}")

        def batch(suite: Suite) -> tuple[Any, dict[str, Any]]:
            looked_at = pd.DataFrame({"looked_at": [suite.table], "pod": [pod], "cut": [cut]})
            asset = source.add_dataframe_asset(suite.name)
            return asset.add_batch_definition_whole_dataframe("all"), {"dataframe": looked_at}

        token = _marts.set(_Marts(connection))
        try:
            yield Rows(pod=pod, cut=cut, batch=batch, is_native=False)
        finally:
            _marts.reset(token)

    def judge(self, store: str, suite: Suite, rows: Rows) -> Judgement:
        """Run a suite over a pod's rows, and return its judgement."""
        name = f"{store}.{suite.name}.{rows.pod}"
        data, parameters = rows.batch(suite)
        asked = self._context.suites.add(gx.ExpectationSuite(name=name, meta={"notes": suite.adds}))
        for expectation in suite.expectations:
            asked.add_expectation(_built(suite, expectation, rows))
        validation = gx.ValidationDefinition(name=name, data=data, suite=asked)
        result = self._context.validation_definitions.add(validation).run(
            batch_parameters=parameters,
            run_id=self._run,
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": list(suite.key),
                "partial_unexpected_count": KEYS_SHOWN,
            },
        )
        findings, unknown = _sorted_out(suite, result.results)
        return Judgement(
            suite=f"{store}.{suite.name}",
            pod=rows.pod,
            cut=rows.cut,
            expectations=len(suite.expectations),
            findings=findings,
            unknown=unknown,
            page=self._page(name, result.batch_id),
        )

    def publish(self) -> None:
        """Write the pages of this run; `pages.finish` then removes what they load from elsewhere."""
        mine = [key for key in self._context.validation_results_store.list_keys() if key.run_id == self._run]
        self._context.build_data_docs(resource_identifiers=mine, build_index=False)

    def _page(self, name: str, batch_id: str) -> str:
        folders = name.replace(".", "/")
        moment = self._run.run_time.strftime("%Y%m%dT%H%M%S.%fZ")
        return f"validations/{folders}/{self._run.run_name}/{moment}/{batch_id}.html"


def _project(folder: Path) -> DataContextConfig:
    """Return a Great Expectations project that stores results and pages below `folder`, and all else in memory."""

    def kept_in(name: str) -> dict[str, str]:
        return {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder / name)}

    stores = dict(InMemoryStoreBackendDefaults().stores)
    stores["validation_results_store"] = {"class_name": "ValidationResultsStore", "store_backend": kept_in(RESULTS)}
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": kept_in(PAGES),
    }
    return DataContextConfig(
        stores=stores,
        expectations_store_name="expectations_store",
        validation_results_store_name="validation_results_store",
        checkpoint_store_name="checkpoint_store",
        data_docs_sites={"tieout": site},
        analytics_enabled=False,
        progress_bars={"globally": False},
    )


def _enter(connection: sa.Connection, exported_snapshot: str) -> None:
    """Set a transaction that begins to the exported snapshot, read only."""
    connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
    connection.exec_driver_sql(set_snapshot(exported_snapshot))


def _built(suite: Suite, expectation: Expectation, rows: Rows) -> Any:
    common = {
        "description": expectation.statement,
        "severity": expectation.severity.value,
        "meta": {"expectation": expectation.name},
    }
    if rows.is_native and expectation.native:
        return getattr(gxe, expectation.native)(**expectation.arguments, **common)
    return ExpectNoRows(unexpected_rows_query=suite.rows(expectation, BATCH), **common)


def _sorted_out(suite: Suite, results: Sequence[Any]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return (expectations that do not hold, expectations that could not look with the reason)."""
    declared = {expectation.name: expectation for expectation in suite.expectations}
    findings, unknown = [], []
    for item in results:
        expectation = declared[item.expectation_config.meta["expectation"]]
        if error := _error(item.exception_info):
            unknown.append(f"{expectation.name}: {error}")
        elif not item.success:
            findings.append(_finding(suite, expectation, item.result))
    return tuple(findings), tuple(unknown)


def _finding(suite: Suite, expectation: Expectation, result: Mapping[str, Any]) -> Finding:
    is_native = "unexpected_count" in result
    found = result.get("partial_unexpected_index_list", []) if is_native else result["details"]["unexpected_rows"]
    return Finding(
        expectation=expectation.name,
        statement=expectation.statement,
        severity=expectation.severity,
        rows=int(result["unexpected_count"] if is_native else result["observed_value"]),
        keys=tuple(" / ".join(str(row[name]) for name in suite.key if name in row) for row in found),
    )


def _error(info: Mapping[str, Any]) -> str:
    """Return in one line why an expectation could not look; empty if it could."""
    details = [info] if "raised_exception" in info else [item for item in info.values() if isinstance(item, dict)]
    raised = [str(item["exception_message"]) for item in details if item["raised_exception"]]
    return " ".join(raised[0].partition("[SQL:")[0].split()) if raised else ""
