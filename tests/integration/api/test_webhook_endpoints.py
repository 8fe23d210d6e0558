"""A merchant's admin looks after its endpoints for webhooks over HTTP."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.declaring import Role
from contracts.errors import CommandUnderWayError, StackError
from contracts.webhooks import EVENT_TYPES
from tests.integration.api.conftest import RIVAL, Asked
from tests.integration.shop import MERCHANT

PATH = "/v1/webhook-endpoints"
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOOK = {"url": "https://shop.example/hook?token=very-secret", "event_types": ["order.placed", "refund.completed"]}


def post(asked: Asked, path: str, body: Any, **more: Any) -> httpx.Response:
    return asked.ask("POST", f"{PATH}{path}", Role.ADMIN, json=body, **more)


@pytest.fixture
def made(asked: Asked) -> dict[str, Any]:
    return dict(post(asked, "", HOOK).json())


@pytest.fixture(autouse=True)
def room(asked: Asked) -> None:
    """Remove what other tests have registered, which may be as many as a merchant may have."""
    for one in asked.ask("GET", PATH, Role.ADMIN).json()["items"]:
        post(asked, f"/{one['endpoint_id']}/removals", {})


def test_an_endpoint_is_registered_listed_changed_and_removed(asked: Asked, made: dict[str, Any]) -> None:
    endpoint = made["endpoint"]
    path = f"{PATH}/{endpoint['endpoint_id']}"
    assert made["secret"].startswith("whsec_") and endpoint["event_types"] == HOOK["event_types"]
    found = asked.ask("GET", path, Role.ADMIN)
    assert found.json() == endpoint and found.headers["ETag"] == '"1"'
    assert [one["endpoint_id"] for one in asked.ask("GET", PATH, Role.ADMIN).json()["items"]] == [
        endpoint["endpoint_id"]
    ]
    assert asked.ask("GET", PATH, Role.ADMIN, merchant_id=RIVAL).json()["items"] == []
    changed = asked.ask("PATCH", path, Role.ADMIN, json={"is_enabled": False}, headers={"If-Match": '"1"'})
    assert (changed.json()["is_enabled"], changed.json()["url"]) == (False, HOOK["url"])
    late = asked.ask("PATCH", path, Role.ADMIN, json={"is_enabled": True}, headers={"If-Match": '"1"'})
    assert late.status_code == 412
    removed = post(asked, f"/{endpoint['endpoint_id']}/removals", {})
    assert removed.status_code == 200 and asked.ask("GET", path, Role.ADMIN).status_code == 404


def test_a_secret_is_shown_once_and_changed_with_an_overlap(asked: Asked, made: dict[str, Any]) -> None:
    path = f"/{made['endpoint']['endpoint_id']}/secrets"
    first = post(asked, path, {"overlap_seconds": 60}, key="rotate").json()
    again = post(asked, path, {"overlap_seconds": 60}, key="rotate")
    assert first["secret"] not in (None, made["secret"]) and first["endpoint"]["earlier_secret_until"] is not None
    assert (again.json()["secret"], again.headers["Idempotency-Replayed"]) == (None, "true")
    other = post(asked, path, {"overlap_seconds": 61}, key="rotate")
    assert other.status_code == 422 and "overlap_seconds" in other.text
    text = asked.ask("GET", PATH, Role.ADMIN).text
    assert "whsec_" not in text and "secret_number" not in text


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://shop.example/hook", "begin with https"),
        ("https://127.0.0.1/hook", "private network"),
        ("https://10.1.2.3/hook", "private network"),
        ("https://169.254.169.254/latest/meta-data", "private network"),
        ("https://[::1]/hook", "private network"),
        ("https://[::ffff:10.0.0.1]/hook", "private network"),
        ("https://localhost/hook", "private network"),
        ("https://ada:password@shop.example/", "neither a user"),
        ("ftp://shop.example/", "begin with https"),
        ("https://shop.example:99999/", "no address"),
    ],
)
def test_an_address_that_we_must_not_connect_to_is_refused(asked: Asked, url: str, why: str) -> None:
    refused = post(asked, "", {**HOOK, "url": url})
    assert refused.status_code == 400 and why in refused.json()["detail"]


def test_types_and_numbers_are_limited(asked: Asked) -> None:
    refused = post(asked, "", {**HOOK, "event_types": ["order.eaten"]})
    assert refused.status_code == 400 and EVENT_TYPES[0] in refused.json()["detail"]
    for _ in range(asked.settings.webhook_endpoints_max):
        assert post(asked, "", HOOK).status_code == 201
    full = post(asked, "", HOOK)
    assert full.status_code == 409 and "as many as it may have" in full.json()["detail"]


def test_how_far_an_endpoint_is_and_letting_it_go_on(
    asked: Asked, made: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_id = made["endpoint"]["endpoint_id"]
    with caplog.at_level(logging.DEBUG):
        standing = asked.ask("GET", f"{PATH}/{endpoint_id}/standing", Role.ADMIN).json()
        assert (standing["state"], standing["pods"]) == ("on", [])
        assert post(asked, f"/{endpoint_id}/resumptions", {}).status_code == 200
        assert post(asked, f"/{endpoint_id}/replays", {"pod": "pod1"}).status_code == 400
        gone = post(asked, f"/{endpoint_id}/replays", {"pod": "pod1", "from_cut": 1})
        unknown = post(asked, f"/{endpoint_id}/skips", {"event_id": "of-nothing", "reason": "refused for ever"})
        assert unknown.status_code == 404 and "of-nothing" in unknown.json()["detail"]
        assert post(asked, f"/{endpoint_id}/skips", {"event_id": "of-nothing"}).status_code == 400
    # There is no lake here.
    assert gone.status_code == 503, gone.text
    assert "whsec_" not in caplog.text and "very-secret" not in caplog.text


def test_a_replay_and_a_skip_are_done_once_per_key(asked: Asked, made: dict[str, Any]) -> None:
    """What they do is tested where it is done; here each call of it counts."""
    path, runs, fails = f"/{made['endpoint']['endpoint_id']}", [], [StackError("The lake does not answer.")]

    def work(*named: str, **how: Any) -> dict[str, Any]:
        if fails:
            raise fails.pop()
        runs.append((*named, how))
        if len(named) == 1:
            cuts = {"pod1": {"first_cut": how["from_cut"], "last_cut": 9}}
            return {"is_preview": how["is_preview"], "cuts": cuts, "events": {"order.placed": 2}, "total": 2}
        texts = dict.fromkeys(("pod", "event_type", "aggregate_type", "aggregate_id"), "x")
        times = {"recorded_at": NOW, "skipped_at": NOW, "first_failed_at": None, "last_status": None}
        why = {"skipped_by": how["by"], "skipped_because": how["reason"]}
        return {**texts, **times, **why, "event_id": named[1], "state": "skipped", "cut": 1, "attempts": 3}

    operations = replace(asked.services.operations, webhook_replay=work, webhook_skip=work)
    # The services are frozen: what stands in for theirs goes with this test.
    before = asked.services.operations
    object.__setattr__(asked.services, "operations", operations)
    try:
        told = {"pod": "pod1", "from_cut": 3, "is_preview": False}
        skipped = {"event_id": "e1", "reason": "refused for ever", "is_preview": False}
        assert post(asked, f"{path}/replays", told, key="k").status_code == 503
        for what, body, key, other in (
            ("replays", told, "k", {"from_cut": 4}),
            ("skips", skipped, "s", {"event_id": "e2"}),
        ):
            first, again = (post(asked, f"{path}/{what}", body, key=key) for _ in range(2))
            assert first.status_code == 200 and "Idempotency-Replayed" not in first.headers, first.text
            assert again.json() == first.json() and again.headers["Idempotency-Replayed"] == "true"
            refused = post(asked, f"{path}/{what}", {**body, **other}, key=key)
            assert (refused.status_code, refused.json()["differing_fields"]) == (422, list(other))
        assert [run[1:2] for run in runs] == [runs[0][1:2], ("e1",)], "each ran once"
        assert post(asked, f"{path}/replays", told).status_code == 200 and len(runs) == 3
        under_way: list[int] = []

        def while_running(*_: str, **__: Any) -> dict[str, Any]:
            with pytest.raises(CommandUnderWayError):
                asked.services.webhooks.once(MERCHANT, "u", {"do": "x"}, dict)
            under_way.append(1)
            return {}

        assert asked.services.webhooks.once(MERCHANT, "u", {"do": "x"}, while_running) == ({}, False)
        assert under_way == [1]
    finally:
        object.__setattr__(asked.services, "operations", before)
