"""`tieout notifications`: what the payment provider says and the books do not have, and a person's decision."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg

from contracts.settings import Settings
from oltp.commands.execute import build_command_pod
from oltp.domain.notifications import Notification, NotificationKind
from oltp.notifying import apply_waiting, store_notification
from stack.looking.waiting import notifications_of
from stack.upkeep.notification_watch import NotificationWatch
from tests.integration import shop as shops
from tests.integration.conftest import Run
from tests.integration.shop import MERCHANT, NOW
from tests.integration.test_provider_calls import AT_ONCE


def test_a_person_sees_retries_and_dismisses(settings: Settings, run: Run) -> None:
    pod_settings = settings.pods[0]
    with build_command_pod(pod_settings, clock=lambda: NOW) as pod:
        shops.open_shop(pod, pod_settings)
        for number in ("1", "2"):
            one = Notification(
                id=f"evt_{number}",
                type=NotificationKind.AUTHORIZATION_SUCCEEDED,
                merchant_id=MERCHANT,
                created_at=NOW,
                authorization_reference=f"auth_{number}",
                amount_minor=500,
                currency="GBP",
            )
            with pod.connections.connection() as connection:
                store_notification(connection, "embedded", one, msgspec.json.encode(one).decode())
        apply_waiting(pod, retry_after=AT_ONCE)
        (seen,) = notifications_of(pod_settings)
        assert (seen.waiting, seen.parked, seen.alarm) == (2, 0, "")
        with psycopg.connect(pod_settings.owner_dsn) as owner:
            owner.execute("update oltp.provider_notifications set received_at = received_at - interval '2 hours'")
        assert "2 notifications wait in pod1, the oldest for 7,2" in notifications_of(pod_settings)[0].alarm
        apply_waiting(pod, retry_after=AT_ONCE)
    watch = NotificationWatch(settings=settings)
    watch.look_once()
    assert [(trouble.name, trouble.needs_person) for trouble in watch.troubles] == [("notifications of pod1", True)]
    found: list[dict[str, Any]] = run("notifications", "list")["notifications"]
    assert [(one["event_id"], one["state"]) for one in found] == [("evt_1", "parked"), ("evt_2", "parked")]
    assert "auth_2" in run("notifications", "show", "evt_2")["body"]
    said = ("--reason", "voided by hand", "--by", "Ada")
    assert run("notifications", "retry", "evt_1", *said)["state"] == "parked"
    assert run("notifications", "dismiss", "evt_1", *said, "--dry-run", code=0)["state"] == "parked"
    assert run("notifications", "dismiss", "evt_1", *said, "--yes") == {"id": "evt_1", "state": "dismissed"}
    kept = run("notifications", "show", "evt_1")
    assert (kept["state"], kept["reason"], kept["decided_by"]) == ("dismissed", "voided by hand", "Ada")
    assert [one["event_id"] for one in run("notifications", "list")["notifications"]] == ["evt_2"]
