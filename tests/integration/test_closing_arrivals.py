"""Closing a month says first what it will do, and waits for all that belongs to the month; nothing slips in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from cli.app import app
from contracts.errors import ConflictError, InputError, NotFoundError, PeriodNotReadyError
from contracts.verdicts import Verdict
from derived.reports import Connection
from finance.closing import close_period
from finance.imports import lock_key, recorded_import, unended_imports
from finance.periods import Period
from reconcile.results import latest_results
from repair import ledger
from stack.composition.certificate_evidence import gather_proof, hold_proof
from tests.integration.finance_office import DECEMBER, JANUARY, Office, gather
from tests.integration.test_closing import ONE_PENNY, differing

pytestmark = pytest.mark.timeout(1200)

MONTH = Period(2010, 12)
DIES_IN_THE_MIDDLE = """
import sys
from pathlib import Path
from finance.imports import lock_key, recorded_import
with recorded_import(sys.argv[1], [Path("2010-12.csv")], by="ada"):
    print("begun", flush=True)
    sys.stdin.read()
"""


def obstacles(office: Office, *options: str) -> list[str]:
    """Return what a dry run says is in the way."""
    outcome = office.run("close", "2010-12", "--dry-run", *options, fails=True)
    assert outcome["closed"] is False
    return list(outcome["obstacles"])


@pytest.mark.long
def test_nothing_is_frozen_that_was_not_shown_or_is_not_whole(office: Office, tmp_path: Path) -> None:
    office.at(DECEMBER)
    assert office.reconcile()
    an_empty_month_needs_its_own_word(office)
    a_report_as_of_a_moment_says_what_that_means(office)

    order, payment = office.shops[0].paid()
    (late,) = obstacles(office, "--empty")
    assert "events of days up to 2010-12-31 lie after cut" in late and "payments" in late
    assert office.run("periods")["periods"] == []
    assert office.reconcile()
    office.at(JANUARY)
    office.shops[1].paid()
    it_is_shown_before(office, order.total_minor)
    imports_are_in_the_way(office, tmp_path)
    what_is_found_while_closing_is_not_missed(office)
    what_was_shown_is_what_is_closed(office)
    outcome = CliRunner().invoke(app, ["close", "2010-12"])
    assert isinstance(outcome.exception, InputError) and "--yes" in str(outcome.exception)
    assert office.run("close", "2010-12", "--yes")["closed"] is True
    assert office.report("daily", "--period", "2010-12")["rows"][0]["captured_minor"] == payment.captured_minor


def a_report_as_of_a_moment_says_what_that_means(office: Office) -> None:
    """An empty table was the answer for a day before anything was recorded."""
    today = datetime.now(UTC)
    for wrong, said in (
        ("2010-12-15", r"By the end of 2010-12-15 UTC nothing was recorded: the first cut is of .* --period 2010-12\."),
        (f"{today + timedelta(days=2):%Y-%m-%d}", "lies in the future"),
        ("9998-01-01T00:00:00", "lies in the future"),
        ("9999-12-31", "lies in the future"),
        ("pod1=\u00b2", "is no cut"),
        ("pod1=1,pod1=1", "named twice"),
    ):
        with pytest.raises(InputError, match=said):
            office.report("daily", "--as-of", wrong)
    outcome = CliRunner().invoke(app, ["report", "daily", "--as-of", f"{today:%Y-%m-%d}"])
    assert outcome.exit_code == 0 and "whatever its business day" in outcome.stderr
    outcome = CliRunner().invoke(app, ["report", "daily", "--as-of", "pod1=1", "--json"])
    assert "Nothing of pod2, which is not named, is in it." in outcome.stderr


def an_empty_month_needs_its_own_word(office: Office) -> None:
    """A month without entries was frozen for ever while its import had not begun."""
    (empty,) = obstacles(office)
    assert empty.startswith("the month is empty")
    assert office.run("close", "2010-12", "--dry-run", "--empty")["obstacles"] == []


def it_is_shown_before(office: Office, placed_minor: int) -> None:
    """A dry run says what would be frozen; what comes after it for later days is said, and in the way of nothing."""
    shown = office.run("close", "2010-12", "--dry-run")
    (total,) = shown["totals"]
    assert (total["merchant_id"], total["sums"]["placed_minor"]) == ("united-kingdom", placed_minor)
    assert set(shown["reports"]) == {"daily", "merchant-payable", "tax", "trial-balance"}
    later = {one["pod"]: sum(kind["later"] for kind in one["events"]) for one in shown["after_the_cuts"]}
    assert later["pod1"] == 0 and later["pod2"] > 0
    text = CliRunner().invoke(app, ["close", "2010-12", "--dry-run"]).stdout
    assert "united-kingdom" in text and "Nothing was done." in text
    assert office.run("periods")["periods"] == []


def imports_are_in_the_way(office: Office, folder: Path) -> None:
    """Running, killed, unfinished: until the same files are imported again, or somebody gives it up."""
    dsn, file = office.settings.control_dsn, folder / "2010-12.csv"
    file.write_text("x")
    with recorded_import(dsn, [file], by="ada"):
        (running,) = obstacles(office)
        assert "is running" in running
        with pytest.raises(ConflictError, match="is running"):
            office.run("imports", "give-up", "1", "--reason", "No.", "--yes")
    assert office.run("close", "2010-12", "--dry-run")["obstacles"] == []

    killed = subprocess.Popen(
        [sys.executable, "-c", DIES_IN_THE_MIDDLE, dsn],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert killed.stdout is not None and killed.stdout.readline() == b"begun\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait_for_the_lock(dsn)
    (torn,) = obstacles(office)
    assert "was interrupted; import the files again" in torn
    with pytest.raises(InputError), recorded_import(dsn, [file], by="ada"):
        raise InputError("no file of ours")
    assert len(obstacles(office)) == 1
    with recorded_import(dsn, [file], by="ada") as again:
        again.unfinished = 2
    (left,) = obstacles(office)
    assert "left 2 orders or credit notes unfinished" in left
    (listed,) = office.run("imports", "list")
    with pytest.raises(NotFoundError):
        office.run("imports", "give-up", "99", "--reason", "No.", "--yes")
    office.run("imports", "give-up", str(listed["import_id"]), "--reason", "Booked by hand.", "--yes")
    assert unended_imports(dsn) == []


def wait_for_the_lock(dsn: str) -> None:
    """Wait until the server has noticed that the import's session is gone."""
    with psycopg.connect(dsn) as connection:
        (newest,) = connection.execute("select max(import_id) from finance.imports").fetchone() or (0,)
        connection.execute("select pg_advisory_lock(%s)", (lock_key(newest),))


def what_is_found_while_closing_is_not_missed(office: Office) -> None:
    """A break that is recorded after everything was gathered stops the closing; one that comes later waits for it."""
    dsn = office.settings.control_dsn
    orders = next(one for one in latest_results(dsn) if (one.pair, one.pod) == ("operational_finance.orders", "pod1"))
    worse = replace(differing(orders, ONE_PENNY), checked_at=orders.checked_at + timedelta(days=1))
    first = threading.Event()

    def gather_then_find(lake: Connection) -> Any:
        proof = gather_proof(office.settings, lake, MONTH)
        if not first.is_set():
            first.set()
            ledger.record(dsn, [worse], run="a test")
        return proof

    with pytest.raises(PeriodNotReadyError, match="break 1 is open"):
        close_period(office.settings, MONTH, gather_then_find, hold_proof, by="ada")
    ledger.accept(dsn, break_ids=[1], reason="Known.", by="ada")
    first.clear()

    def gather_then_decide(lake: Connection) -> Any:
        proof = gather_proof(office.settings, lake, MONTH)
        if not first.is_set():
            first.set()
            ledger.reopen(dsn, break_ids=[1], reason="", by="eve")
            ledger.accept(dsn, break_ids=[1], reason="For another reason.", by="eve")
        return proof

    with pytest.raises(ConflictError, match="nothing was closed"):
        close_period(office.settings, MONTH, gather_then_decide, hold_proof, by="ada")
    assert office.run("periods")["periods"] == []
    it_waits_for_the_closing(office, worse)
    gone = replace(orders, checked_at=orders.checked_at + timedelta(days=2), verdict=Verdict.CONSISTENT)
    ledger.record(dsn, [gone], run="a test")


def it_waits_for_the_closing(office: Office, worse: Any) -> None:
    """While the closing holds what it has read, nobody can record."""
    dsn, recorded = office.settings.control_dsn, threading.Event()
    with psycopg.connect(dsn) as closing:
        hold_proof(closing)
        again = replace(worse, checked_at=worse.checked_at + timedelta(hours=3))

        def record() -> None:
            ledger.record(dsn, [again], run="a test")
            recorded.set()

        thread = threading.Thread(target=record)
        thread.start()
        with psycopg.connect(dsn, autocommit=True) as watching:
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            while watching.execute(waiting).fetchone() == (0,):
                assert thread.is_alive()
        assert not recorded.is_set()
    thread.join(60)
    assert recorded.is_set()


def what_was_shown_is_what_is_closed(office: Office) -> None:
    """What was shown is frozen, or nothing."""
    shown = office.run("close", "2010-12", "--dry-run")
    expected = {name: one["content_sha256"] for name, one in shown["reports"].items()}
    with pytest.raises(ConflictError, match="not those that were shown"):
        close_period(
            office.settings,
            MONTH,
            gather(office, MONTH),
            hold_proof,
            by="ada",
            expected={**expected, "tax": "another"},
            clock=lambda: datetime.now(UTC),
        )
