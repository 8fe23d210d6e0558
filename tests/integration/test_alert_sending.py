"""Messages reach a webhook and a mailbox, once each, also with two senders, refusals and a sender that died."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import typer
from typer.testing import CliRunner, Result

from cli.commands.alerts import add_commands
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from reconcile.coverage import keep_coverage
from reconcile.pairs import PAIRS, pairs_of
from repair.alerts.deciding import AlertKind, Withdrawal
from repair.alerts.queue import (
    CLAIM_SECONDS,
    Message,
    claim,
    heartbeat,
    latest_alerts,
    migrate,
    pending_alerts,
    record_direct,
    write,
)
from repair.alerts.sending import FLOOD_WINDOW, TEXTS_PER_WINDOW, Target, build_targets, send_pending
from stack import settings as stack_settings
from stack.composition.migrations import migrate_everything
from stack.upkeep.alerting import tell
from tests.conftest import MakeDatabase
from tests.receivers import Mailbox, Webhook, mail_server
from tests.values import Clock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def control_dsn(make_database: MakeDatabase) -> str:
    dsn = make_database("tieout_control")
    migrate(dsn)
    migrate(dsn)
    return dsn


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as received:
        yield received


def opened(group_id: int) -> Message:
    return Message(
        kind=AlertKind.OPENED, group_id=group_id, title=f"Incident {group_id}", body="One key, -13.45 EUR.\n"
    )


def everybody(targets: list[Target]) -> dict[AlertKind, list[Target]]:
    return dict.fromkeys(AlertKind, targets)


def test_a_message_is_written_once_and_reaches_webhook_and_mailbox(
    control_dsn: str, hook: Webhook, mailbox: Mailbox
) -> None:
    clock = Clock(NOW)
    assert write(control_dsn, [opened(1), opened(1), opened(2)], clock()) == 2
    targets = build_targets([hook.url(), mailbox.url("oncall@example.org"), "nonsense://secret"])
    assert "geheim" not in repr(targets) and "example.org" not in repr(targets)

    sent = send_pending(control_dsn, everybody(targets), clock=clock)
    assert hook.titles == ["Incident 1", "Incident 2"] and "-13.45 EUR" in hook.messages[0]["message"]
    assert [mail["Subject"] for mail in mailbox.mails] == ["Incident 1", "Incident 2"]
    assert "-13.45 EUR" in str(mailbox.mails[0].get_body(("plain", "html")))
    assert sent.delivered == () and len(sent.failed) == 2
    pending = pending_alerts(control_dsn)
    assert [item.error for item in pending] == ["target 3 (nonsense) is no address that Apprise understands"] * 2
    assert all(len(item.delivered_to) == 2 for item in pending)

    # Without the wrong address nothing is left to do, and nobody is told twice.
    sent = send_pending(control_dsn, everybody(targets[:2]), clock=clock, is_forced=True)
    assert len(sent.delivered) == 2 and len(hook.messages) == len(mailbox.mails) == 2
    assert pending_alerts(control_dsn) == [] and all(item.sent_at == NOW for item in latest_alerts(control_dsn))
    assert heartbeat(control_dsn).delivered_at == NOW


def test_what_was_sent_while_the_database_was_down_is_put_on_record_once(control_dsn: str) -> None:
    down = Message(kind=AlertKind.OUTAGE, title="[Tieout] Down: PostgreSQL control", body="", subject="since noon")
    for _ in range(2):
        record_direct(control_dsn, down, written_at=NOW, sent_at=NOW, delivered_to=["f"], connect_seconds=5)
    untold = replace(down, subject="since one", not_sent_because="No target is set.")
    record_direct(control_dsn, untold, written_at=NOW, sent_at=None, delivered_to=[], connect_seconds=5)
    newest, oldest = latest_alerts(control_dsn)
    assert (oldest.sent_at, oldest.delivered_to, heartbeat(control_dsn).delivered_at) == (NOW, ("f",), NOW)
    assert newest.withdrawn_at == NOW and newest.error == "No target is set." and pending_alerts(control_dsn) == []


def test_a_chat_is_told_and_a_refusal_of_it_does_not_show_its_token(control_dsn: str, hook: Webhook) -> None:
    clock = Clock(NOW)
    write(control_dsn, [opened(1)], clock())
    targets = everybody(build_targets([hook.chat_url("oncall")]))
    hook.status = 403
    ((_, error),) = send_pending(control_dsn, targets, clock=clock).failed
    assert error == "target 1 (mmost) answered with HTTP status 403"
    hook.status = 200
    assert len(send_pending(control_dsn, targets, clock=clock, is_forced=True).delivered) == 1
    (said,) = hook.messages
    assert said["channel"] == "oncall" and "Incident 1" in said["text"] and "-13.45 EUR" in said["text"]


def test_a_refusal_is_kept_without_secrets_and_tried_again_later(control_dsn: str, hook: Webhook) -> None:
    clock = Clock(NOW)
    write(control_dsn, [opened(1)], clock())
    targets = everybody(build_targets([hook.url("token")]))
    hook.status = 503
    for number, wait in enumerate((30, 60, 120), start=1):
        assert len(send_pending(control_dsn, targets, clock=clock).failed) == 1
        (waiting,) = pending_alerts(control_dsn)
        assert waiting.error == "target 1 (json) answered with HTTP status 503" and waiting.attempts == number
        clock.advance(wait - 1)
        assert send_pending(control_dsn, targets, clock=clock).failed == ()
        clock.advance(1)
    hook.status = 200
    assert len(send_pending(control_dsn, targets, clock=clock).delivered) == 1
    beats = heartbeat(control_dsn)
    assert hook.titles == ["Incident 1"] and beats.delivered_at == clock.now and beats.failed_at is not None


def test_two_senders_at_once_send_nothing_twice_and_a_dead_ones_message_is_sent(control_dsn: str) -> None:
    clock = Clock(NOW)
    write(control_dsn, [opened(number) for number in range(1, 9)], clock())
    (died_with,) = claim(control_dsn, list(AlertKind), clock(), limit=1)
    got: list[str] = []
    both_inside = threading.Barrier(2, timeout=20)

    def deliver(title: str, body: str) -> str:
        both_inside.wait()
        got.append(title)
        return ""

    targets = everybody([Target(number=1, fingerprint="one", scheme="test", deliver=deliver)])
    threads = [
        threading.Thread(target=send_pending, args=(control_dsn, targets), kwargs={"clock": clock, "messages_max": n})
        for n in (3, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == len(set(got)) == 6 and died_with.title not in got

    clock.advance(CLAIM_SECONDS + 1)
    both_inside = threading.Barrier(1)
    send_pending(control_dsn, targets, clock=clock)
    assert got[6:] == [died_with.title, "Incident 8"] and pending_alerts(control_dsn) == []


def test_a_message_in_the_hands_of_a_sender_is_not_withdrawn_and_a_target_that_breaks_down_is_a_refusal(
    control_dsn: str,
) -> None:
    clock = Clock(NOW)
    write(control_dsn, [opened(1), opened(2)], clock())
    (held,) = claim(control_dsn, list(AlertKind), clock(), limit=1)
    withdrawals = [Withdrawal(alert_id=item.alert_id, reason="settled") for item in pending_alerts(control_dsn)]
    write(control_dsn, [], clock(), withdrawals=withdrawals)
    assert [item.alert_id for item in pending_alerts(control_dsn)] == [held.alert_id]

    def broken(title: str, body: str) -> str:
        raise OSError("json://tieout:geheim@127.0.0.1")

    clock.advance(CLAIM_SECONDS + 1)
    target = Target(number=1, fingerprint="one", scheme="test", deliver=broken)
    send_pending(control_dsn, everybody([target]), clock=clock)
    assert [item.error for item in pending_alerts(control_dsn)] == ["target 1 (test) could not be tried (OSError)"]
    # Withdrawn, it may be written again when the incident comes back.
    assert write(control_dsn, [opened(2)], clock()) == 1


def test_a_flood_of_incidents_is_one_message_with_runbooks_and_promises_and_each_is_told_once(
    control_dsn: str, hook: Webhook, mailbox: Mailbox
) -> None:
    clock = Clock(NOW)
    body = "One key.\n\nStill holds for users: Selling goes on.\nRunbook: docs/runbooks/lake.md\n"
    flood = [
        Message(
            kind=AlertKind.OPENED, group_id=number, title=f"[Tieout] Found: {number} keys, pair {number}", body=body
        )
        for number in range(1, 301)
    ]
    assert write(control_dsn, [*flood, opened(1)], clock()) == 300
    targets = everybody(build_targets([hook.url(), mailbox.url("oncall@example.org")]))
    assert len(send_pending(control_dsn, targets, clock=clock).delivered) == 300
    (message,), (mail,) = hook.messages, mailbox.mails
    assert mail["Subject"] == message["title"]
    assert message["title"] == "[Tieout] Found: 300 incidents" and "and 260 more" in message["message"]
    assert "- 7 keys, pair 7" in message["message"]
    assert message["message"].count("Still holds for users: Selling goes on.") == 1
    assert message["message"].count("Runbook: docs/runbooks/lake.md") == 1
    # Each of them is told: nobody hears of it again, and its end is told.
    assert write(control_dsn, flood, clock()) == 0
    assert all(alert.is_told for alert in latest_alerts(control_dsn, limit=300))
    assert send_pending(control_dsn, targets, clock=clock).delivered == ()


def test_a_trickle_of_incidents_is_dammed_and_then_comes_together(control_dsn: str, hook: Webhook) -> None:
    clock, targets = Clock(NOW), everybody(build_targets([hook.url()]))
    for number in range(1, 41):
        clock.advance(10)
        write(control_dsn, [opened(number)], clock())
        send_pending(control_dsn, targets, clock=clock)
    assert len(hook.messages) == TEXTS_PER_WINDOW
    # What is about no incident does not wait behind them.
    write(control_dsn, [Message(kind=AlertKind.DIGEST, title="The books", body="They tie.", subject="run")], clock())
    assert len(send_pending(control_dsn, targets, clock=clock).delivered) == 1 and hook.titles[-1] == "The books"
    clock.advance(FLOOD_WINDOW.total_seconds())
    assert len(send_pending(control_dsn, targets, clock=clock).delivered) == 40 - TEXTS_PER_WINDOW
    assert hook.titles[-1] == f"[Tieout] Found: {40 - TEXTS_PER_WINDOW} incidents"
    assert pending_alerts(control_dsn) == []


def test_comparisons_that_do_not_come_round_are_told_once_and_when_they_do_again(
    settings: Settings, hook: Webhook
) -> None:
    migrate_everything(settings)
    clock, told = Clock(NOW), replace(settings, alert_urls=(hook.url(),))
    tell(told, clock=clock)
    clock.advance(9 * 3600)
    # The machine was off for a night: the first comparisons get their time.
    for _ in range(13):
        tell(told, clock=clock)
        clock.advance(290)
    assert hook.titles == ["[Tieout] Alive"]
    for _ in range(2):
        tell(told, clock=clock)
    assert hook.titles[1:] == [
        f"[Tieout] Not compared in time: {PAIRS[0].name} in pod1 and {2 * len(pairs_of(settings)) - 1} more"
    ]

    def results(verdict: Verdict) -> list[PairResult]:
        everything = [(pair.name, pod.pod) for pair in pairs_of(settings) for pod in settings.pods]
        return [
            PairResult(pair=pair, pod=pod, verdict=verdict, cut=3, compared=1, checked_at=clock(), seconds=0.1)
            for pair, pod in everything
        ]

    keep_coverage(settings.control_dsn, results(Verdict.UNKNOWN))
    tell(told, clock=clock)
    keep_coverage(settings.control_dsn, results(Verdict.CONSISTENT))
    for _ in range(2):
        tell(told, clock=clock)
    assert hook.titles[2:] == ["[Tieout] Compared in time again"]


def test_the_command_tries_the_way_to_people_and_shows_no_address(
    settings: Settings, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()
    add_commands(app)
    monkeypatch.setattr(stack_settings, "is_external", lambda: True)

    def run(values: Settings, *options: str) -> Result:
        monkeypatch.setattr(stack_settings, "load_settings", lambda: values)
        return CliRunner().invoke(app, list(options))

    silent = run(settings, "--test")
    assert silent.exit_code == 1 and "TIEOUT_ALERT_URLS" in silent.stdout
    told = replace(settings, alert_urls=(hook.url(),), digest_urls=(hook.url(),))
    tried = run(told, "--test")
    # Also what had waited for somebody to be told: the first test, and the sign of life.
    assert tried.exit_code == 0 and sorted(hook.titles) == ["[Tieout] Alive", "[Tieout] Test", "[Tieout] Test"]
    assert "The way to people works" in tried.stdout and "geheim" not in tried.output
    hook.status = 500
    refused = run(told, "--test", "--json")
    answer = json.loads(refused.stdout)
    assert refused.exit_code == 1 and answer["failed"][0]["error"] == "target 1 (json) answered with HTTP status 500"
    assert [item["status"] for item in answer["waiting"]] == ["failing"] and "geheim" not in refused.output
    hook.status = 200
    assert run(told, "--send").exit_code == 0 and hook.titles.count("[Tieout] Test") == 3
