"""The order of a run without any server: how long it waits, and that no reason holds a password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from contracts.ownership import copy_named
from contracts.settings import Settings
from contracts.verdicts import DifferenceClass, PairResult, Verdict
from derived.lake_connection import CONFIGURATION, _load_extensions, quote
from reconcile import comparison_run as run
from reconcile.compare import Outcome
from reconcile.context import ReconcileContext
from reconcile.log_pairs import OUTBOX_PAIR
from reconcile.pair import Findings, PodRun
from reconcile.pairs import pairs_named
from reconcile.residence import NOBODY
from stack.composition.comparison import build_reconcile_context
from stack.scrubbing import scrubber
from tests.values import settings_of

PASSWORD = "p/w?wr0ng"
DSN = "postgresql://tieout_lake:p%2Fw%3Fwr0ng@127.0.0.1:1/catalog"


class FakeTime:
    """A monotonic clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Servers that are not there, each under a DSN with the same password."""
    return settings_of(tmp_path, dsn=DSN, log_url="redis://:l%2Fg@127.0.0.1:1/0", lake_data_path=str(tmp_path))


@pytest.fixture
def context(settings: Settings) -> ReconcileContext:
    """The real context onto those servers, but that the lake is an empty DuckDB."""
    return replace(build_reconcile_context(settings), open_lake=duckdb.connect)


def unreachable(*_: object) -> Any:
    """Raise what DuckDB itself says of a catalog that it cannot connect to."""
    with duckdb.connect(config=CONFIGURATION) as connection:
        _load_extensions(connection, "/nowhere")
        connection.execute(f"attach {quote('ducklake:postgres:' + DSN)} as lake (data_path '/nowhere/')")


def test_the_lake_is_waited_for_as_long_as_the_lake_may_be_late(
    context: ReconcileContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = FakeTime()
    monkeypatch.setattr(run, "read_pod", lambda *_: ((7, None, NOBODY), None))
    patient = replace(context, lake_cut=lambda connection, pod: 3, monotonic=time, sleep=time.sleep)
    results = run.run_pairs(patient, ["oltp_lake.order", "operational_finance.orders"])
    assert {result.verdict for result in results} == {Verdict.LATE}
    assert copy_named("lake").late_seconds_max <= time.now < copy_named("lake").late_seconds_max + 1


def test_a_lake_that_needs_what_the_log_has_lost_is_not_waited_for_in_vain(
    context: ReconcileContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the log lost is mended after the run, so the run must end."""
    time = FakeTime()
    lost = Outcome(compared=1, classes={DifferenceClass.MISSING: 1})
    damaged = replace(OUTBOX_PAIR, compare=lambda _: Findings(outcomes=[lost]))
    monkeypatch.setattr(run, "read_pod", lambda *_: ((7, None, NOBODY), None))
    monkeypatch.setattr(run, "pairs_named", lambda _: (damaged, *pairs_named(["oltp_lake.order"])))
    patient = replace(context, lake_cut=lambda connection, pod: 3, monotonic=time, sleep=time.sleep)
    results = {result.pair: result for result in run.run_pairs(patient)}
    assert results["outbox_log"].missing == 1
    assert results["oltp_lake.order"].verdict is Verdict.LATE
    assert time.now < copy_named("lake").freshness_seconds + 1 < copy_named("lake").late_seconds_max


def test_what_a_stage_finds_is_told_before_the_next_one_waits(
    context: ReconcileContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Outcome(compared=1, classes={DifferenceClass.MISSING: 1})
    damaged = replace(OUTBOX_PAIR, compare=lambda _: Findings(outcomes=[lost]))
    said: list[object] = []

    def lake_cut(_connection: object, pod: str) -> int:
        said.append(f"waiting for the lake of {pod}")
        return 7

    monkeypatch.setattr(run, "read_pod", lambda *_: ((7, None, NOBODY), None))
    monkeypatch.setattr(run, "pairs_named", lambda _: (damaged, *pairs_named(["oltp_lake.order"])))
    there = replace(context, lake_cut=lake_cut)
    found = run.run_comparison(there, pods=["pod1"], on_results=lambda some: said.append([one.pair for one in some]))
    waited = said.index("waiting for the lake of pod1")
    assert said[:waited] == [["outbox_log"]]
    told = [pair for some in said if isinstance(some, list) for pair in some]
    assert sorted(told) == sorted(result.pair for result in found.results) == ["oltp_lake.order", "outbox_log"]


def test_a_pair_that_runs_out_of_memory_is_compared_once_more_with_one_thread(context: ReconcileContext) -> None:
    seen = []

    def compare_with(failures: int) -> PairResult:
        def compare(found: PodRun) -> Findings:
            seen.append(found.connection.execute("select current_setting('threads')").fetchall()[0][0])
            if len(seen) <= failures:
                raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate")
            return Findings(outcomes=[Outcome(compared=1)])

        seen.clear()
        pair = replace(OUTBOX_PAIR, compare=compare)
        with duckdb.connect(config={"threads": 2}) as connection:
            return run._Run(context, [pair], ["pod1"], lambda _: None, {})._compare(connection, pair, "pod1")

    assert compare_with(0).verdict is Verdict.CONSISTENT
    assert seen == [2]
    assert compare_with(1).verdict is Verdict.CONSISTENT
    assert seen == [2, 1]
    again = compare_with(2)
    assert again.verdict is Verdict.UNKNOWN
    assert "TIEOUT_COMPARISON_MEMORY_MB" in again.reason


def test_duckdb_quotes_the_password() -> None:
    with pytest.raises(duckdb.Error) as raised:
        unreachable()
    assert "p%2Fw%3Fwr0ng" in str(raised.value)


def test_no_reason_holds_a_password(context: ReconcileContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(cuts: Mapping[str, int]) -> Mapping[str, int]:
        return unreachable()  # type: ignore[no-any-return]

    no_lake = run.run_pairs(replace(context, open_lake=unreachable))
    no_pod = run.run_pairs(replace(context, take_cut=unreachable), ["oltp_lake.order"])
    monkeypatch.setattr(run, "read_pod", lambda *_: ((0, None, NOBODY), None))
    no_position = run.run_pairs(replace(context, lake_cut=unreachable), ["oltp_lake.order"])
    there = replace(context, lake_cut=lambda connection, pod: 0)
    no_build = run.run_pairs(replace(there, build=build), ["operational_finance.orders"])
    no_view = run.run_pairs(there, ["lake_account_view"])
    results = [*no_lake, *no_pod, *no_position, *no_build, *no_view]
    assert {result.verdict for result in results} == {Verdict.UNKNOWN}
    for result in results:
        assert result.reason and PASSWORD not in result.reason and "p%2Fw%3Fwr0ng" not in result.reason
    assert "***" in no_lake[0].reason and "***" in no_build[0].reason


def test_a_password_at_the_end_of_a_long_message_is_not_cut_in_half(context: ReconcileContext) -> None:
    def failing() -> Any:
        raise ValueError("x" * 495 + PASSWORD)

    (result, *_) = run.run_pairs(replace(context, open_lake=failing))
    assert PASSWORD[:4] not in result.reason


def test_scrubbing_knows_the_password_of_the_log(settings: Settings) -> None:
    clean = scrubber(settings)
    assert clean("redis at redis://:l%2Fg@127.0.0.1:1/0, password l/g") == "redis at ***, password ***"
