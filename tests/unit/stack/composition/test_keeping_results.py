"""What a comparison has found is kept at once, and each result once."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from contracts.verdicts import PairResult, Verdict
from reconcile.comparison_run import Comparison
from repair.ledger import Recorded
from stack.composition import reconciling as module
from stack.composition.reconciling import Keeper
from tests.values import result_of, settings_of


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The pairs that were stored together, one list per time."""
    stored: list[list[str]] = []

    def save(_dsn: str, results: list[PairResult]) -> None:
        stored.append([result.pair for result in results])

    monkeypatch.setattr(module, "save_results", save)
    monkeypatch.setattr(module, "save_figures", lambda *_, **__: None)
    monkeypatch.setattr(module, "take_in", lambda _dsn, some, *, run: Recorded(run=run, breaks_opened=len(some)))
    return stored


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(settings=settings_of(tmp_path), run="round")


def result(pair: str, *, differs: bool = False) -> PairResult:
    return result_of(pair, Verdict.INCONSISTENT if differs else Verdict.CONSISTENT, pod="pod1", cut=3)


def ended(keeper: Keeper, *results: PairResult) -> int:
    """End with these results; return how many results the ledger was given, over all times."""
    return keeper.end(Comparison(results=list(results), figures=[])).recorded.breaks_opened


def test_a_difference_is_kept_before_the_rest_and_nothing_twice(keeper: Keeper, kept: list[list[str]]) -> None:
    first, second, third = result("stock_identity"), result("oltp_lake.order", differs=True), result("lake_search")
    keeper.take([first])
    assert kept == []  # what agrees waits for nobody
    keeper.take([second])
    assert kept == [["stock_identity", "oltp_lake.order"]]
    assert ended(keeper, first, second, third) == 3
    assert kept[1:] == [["lake_search"]]


def test_a_loss_of_the_log_is_kept_with_what_the_lake_has_of_it(keeper: Keeper, kept: list[list[str]]) -> None:
    lost, cart, also = result("outbox_log", differs=True), result("oltp_cart", differs=True), result("log_manifests")
    keeper.take([lost, cart])
    assert kept == [["oltp_cart"]]
    keeper.take([also])
    assert kept[1:] == [["outbox_log", "log_manifests"]]
    assert ended(keeper, lost, cart, also) == 3 and kept[2:] == [[]]


def test_what_could_not_be_kept_at_once_is_so_at_the_end(
    keeper: Keeper, kept: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = result("oltp_lake.order", differs=True)

    def away(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(module, "take_in", away)
        keeper.take([found])
    assert keeper.kept == []
    assert ended(keeper, found) == 1
