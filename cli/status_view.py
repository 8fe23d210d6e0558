"""How `tieout status` looks on a terminal: the verdict first, then servers, pods, copies, comparisons, workers.

Belongs here: tables and lines for people. Does not belong here: the values in them (`stack/looking/status.py`), the
sentences that judge them (`stack/looking/verdict.py`), the command (`cli/commands/status.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.markup import escape

from cli.console import answers, table
from cli.showing import shown, verdict_text
from contracts.text import are, counted
from contracts.verdicts import Verdict
from derived.defective import in_words
from stack.looking.servers import RUNNING
from stack.looking.status import PairStatus, Status
from stack.looking.verdict import NOTHING_RUNS, WELL
from stack.processes.supervision import ProgramState

KEPT_UP = {
    "up": "Everything runs",
    "partly": "A part does not run",
    "down": "Nothing runs",
}


def show_status(status: Status, *, is_short: bool = True) -> None:
    """Print the whole status as tables; short: only those comparisons that are not consistent.

    If nothing runs, short prints only the verdict: every table would repeat that no server answers.
    """
    console = answers()
    _show_verdict(status)
    if is_short and status.verdict.exit_code == NOTHING_RUNS:
        return
    _show_servers(status)
    pods = [
        (
            pod.pod,
            pod.dsn,
            shown(pod.cut),
            _shown_count(pod.unpublished_events),
            shown(pod.oldest_unpublished_seconds),
            pod.error or pod.held_by or "nobody",
        )
        for pod in status.pods
    ]
    headings = ("Pod", "Database", "Cut", "Unpublished", "Oldest (s)", "Published by")
    console.print(table("Pods", headings, pods, numbers_from=2))
    _show_waiting(status)
    _show_copies(status)
    _show_pairs(status, is_short=is_short)
    console.print(breaks_line(status.breaks))
    _show_unmet(status)
    if status.left_out:
        console.print(f"[red]{escape(in_words(status.left_out))}[/]")
    console.print(f"Drills: {status.drills or 'their table does not answer'}.")
    if status.coverage:
        console.print(status.coverage)
    for sentence in status.near_limits:
        console.print(f"[bold red]Near its limit:[/] {escape(sentence)}")
    if status.webhooks:
        console.print(f"{escape(status.webhooks)} See `tieout webhooks list`.")
    for witness in status.witnesses:
        if witness.complaint:
            console.print(escape(witness.sentence))
    if status.workers:
        workers = [
            (worker.name, worker.state, worker.restarts, escape(worker.refusal) or _detail(worker))
            for worker in status.workers
        ]
        console.print(table("Workers", ("Worker", "State", "Restarts", "Detail"), workers, numbers_from=9))


def _detail(worker: ProgramState) -> str:
    """Return what the supervisor says of a worker, and whether it had to be killed because it was suspended."""
    if not worker.suspended:
        return worker.detail
    return f"{worker.detail}; killed {counted(worker.suspended, 'time')}, because it was suspended"


def _show_copies(status: Status) -> None:
    copies = [
        (
            copy.name,
            copy.pod,
            copy.state,
            shown(copy.applied_cut),
            shown(copy.lag_events),
            shown(copy.lag_seconds),
            shown(copy.parked),
        )
        for copy in (*status.projections, *status.warehouse)
    ]
    columns = ("Copy", "Pod", "State", "Applied cut", "Events behind", "Seconds behind", "Parked")
    answers().print(table("Copies", columns, copies, numbers_from=3))


def _show_waiting(status: Status) -> None:
    """Print what a pod waits for: long open transactions, the payment provider's outcomes, and its notifications."""
    if status.open_transactions:
        rows = [
            (one.pod, escape(one.what), escape(one.whose), f"{one.seconds:,.0f}", escape(one.to_end_it))
            for one in status.open_transactions
        ]
        headings = ("Pod", "Open for long (its events are in no cut)", "Whose", "Seconds", "To end it, in the pod")
        answers().print(table("Open transactions", headings, rows, numbers_from=99))
    for one in status.provider_calls:
        answers().print(
            f"{one.pod}: {counted(one.calls, 'call')} to the payment provider without an outcome yet, the oldest for "
            f"{one.oldest_seconds:,.0f} s; the sensor `reservations` settles those that nobody waits for."
        )
    for told in status.notifications:
        answers().print(
            f"{told.pod}: {counted(told.waiting, 'notification')} of the payment provider wait, {told.parked:,} need a "
            "person; see `tieout notifications list`."
        )


def _show_unmet(status: Status) -> None:
    if status.unmet:
        rows = [(row.suite, row.pod, row.expectation, row.rows_found, row.since[:19]) for row in status.unmet]
        headings = ("Suite", "Pod", "Expectation that does not hold", "Rows", "Since (UTC)")
        answers().print(table("Not as expected", headings, rows, numbers_from=3))
    line = "none is known not to hold" if status.unmet == [] else "see above" if status.unmet else "not known"
    answers().print(f"Expectations: {line}; Data Docs: {status.data_docs_url}")


def breaks_line(breaks: Mapping[str, int] | None) -> str:
    """Return one line on the breaks that have not ended; `breaks` is None if the ledger did not answer."""
    if breaks is None:
        return "Breaks: the ledger does not answer."
    known = ", ".join(f"{number:,} {state}" for state, number in breaks.items() if number)
    return f"Breaks: {known}; see `tieout breaks list`." if known else "Breaks: none."


def _show_pairs(status: Status, *, is_short: bool) -> None:
    pairs = [
        (
            pair.pair,
            pair.pod,
            verdict_text(pair.verdict),
            shown(pair.cut),
            f"{pair.compared:,}",
            pair.missing,
            pair.extra,
            pair.different,
            pair.checked_at[:19],
        )
        for pair in status.pairs or ()
        if not is_short or pair.verdict != Verdict.CONSISTENT
    ]
    headings = ("Pair", "Pod", "Verdict", "Cut", "Compared", "Missing", "Extra", "Different", "Checked at")
    if pairs:
        answers().print(table("Newest comparisons (UTC)", headings, pairs, numbers_from=3))
    answers().print(comparisons_line(status.pairs))


def comparisons_line(pairs: Sequence[PairStatus] | None) -> str:
    """Return one line on the newest comparisons; `pairs` is None if the ledger did not answer."""
    if pairs is None:
        return "Comparisons: the ledger does not answer."
    if not pairs:
        return "Nothing has been compared yet; run `tieout reconcile`."
    by_verdict = Counter(pair.verdict for pair in pairs)
    good = by_verdict.pop(Verdict.CONSISTENT, 0)
    others = "".join(f", {number:,} {verdict}" for verdict, number in sorted(by_verdict.items()))
    newest = max(pair.checked_at for pair in pairs)[:19]
    return f"{good} of {counted(len(pairs), 'comparison')} {are(good)} consistent{others}, the newest of {newest} UTC."


def _shown_count(events: int | None) -> str:
    from streams.outbox_reading import COUNTED_MAX

    return f"{events:,} or more" if events is not None and events >= COUNTED_MAX else shown(events)


def _show_verdict(status: Status) -> None:
    verdict, console = status.verdict, answers()
    style = "bold green" if verdict.exit_code == WELL else "bold red"
    console.print(f"[{style}]{escape(verdict.sentence)}[/]")
    if len(verdict.down) + len(verdict.alarms) > 1:
        for sentence in (*verdict.down, *verdict.alarms):
            console.print(f"  - {sentence}", markup=False)
    if status.resident:
        console.print(f"{KEPT_UP[status.state]}; process {status.resident} keeps servers and workers running.")
    if status.dagster_url:
        missing = f" (not ready: {escape(status.pages_missing)})" if status.pages_missing else ""
        console.print(f"Dagster: {status.dagster_url}{missing}")
    if status.api_url:
        console.print(f"HTTP interface: {status.api_url}/v1")


def _show_servers(status: Status) -> None:
    rows = [
        (
            server.name,
            server.kind,
            ", ".join(server.holds),
            server.address,
            server.state if server.state == RUNNING else f"[bold red]{server.state}[/]",
            server.restarts,
            escape(server.reason),
        )
        for server in status.servers
    ]
    headings = ("Server", "Kind", "Holds", "Address", "State", "Restarts", "Why")
    answers().print(table("Servers", headings, rows, numbers_from=9))
