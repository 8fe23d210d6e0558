"""Keys by command: made, listed, rotated and revoked; what of them is stored. And a merchant that moves meanwhile."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import api.pods
from api.declaring import Role
from api.keys.store import KeyStore, migrate_keys
from api.pods import FENCED_ATTEMPTS, Pods
from contracts.errors import ConflictError, NotFoundError, PodFencedError
from contracts.settings import Settings
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.execute import execute as command_execute
from stack.composition.keys import key_store
from tests.integration.api.conftest import Asked
from tests.integration.conftest import Run
from tests.integration.shop import MERCHANT


def test_keys_are_made_listed_rotated_and_revoked_by_command(settings: Settings, run: Run) -> None:
    migrate_keys(settings.control_dsn)
    arguments = ("--role", "admin", "--label", "back office", "--merchant", "shop")
    made = run("keys", "create", *arguments)
    assert made["text"].startswith(made["readable"]) and made["last_used_at"] is None
    rotated = run("keys", "rotate", made["key_id"], "--overlap-hours", "1")
    assert rotated["text"] != made["text"] and rotated["label"] == "back office"
    run("keys", "revoke", rotated["key_id"])
    listed = {key["key_id"]: key for key in run("keys", "list", "--merchant", "shop")["keys"]}
    assert listed[made["key_id"]]["expires_at"] and listed[rotated["key_id"]]["revoked_at"]
    assert made["text"] not in json.dumps(run("keys", "list"))
    assert run("keys", "list", "--merchant", "another")["keys"] == []
    store = key_store(settings)
    found = store.find(made["text"])
    assert (
        found is not None and found.is_valid(store.clock()) and not found.is_valid(store.clock() + timedelta(hours=2))
    )
    with pytest.raises(ConflictError):
        store.rotate(rotated["key_id"])
    with pytest.raises(NotFoundError):
        store.revoke(made["key_id"], merchant_id="another")


def test_a_request_about_a_key_is_done_once_and_its_key_stands_for_nothing_else(asked: Asked) -> None:
    def post(path: str, body: dict[str, Any], key: str) -> Any:
        return asked.ask("POST", f"/v1/keys{path}", Role.ADMIN, key=key, json=body)

    made = {"role": "storefront", "label": "till"}
    first, second = (post("", made, f"make-{n}").json()["key"]["key_id"] for n in (1, 2))
    rotated = post(f"/{first}/rotations", {"overlap_seconds": 0}, "once")
    assert rotated.status_code == 201 and rotated.json()["text"]
    # The first key is no longer valid; the answer was lost and is asked for again.
    again = post(f"/{first}/rotations", {"overlap_seconds": 0}, "once")
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert again.json() == {"key": rotated.json()["key"], "text": None}
    for path, body, differing in (
        (f"/{second}/rotations", {"overlap_seconds": 0}, ["of"]),
        (f"/{first}/rotations", {"overlap_seconds": 1}, ["overlap_seconds"]),
        ("", made, ["do", "label", "of", "overlap_seconds", "role"]),
        (f"/{first}/revocations", {}, ["do", "overlap_seconds"]),
    ):
        other = post(path, body, "once")
        assert (other.status_code, other.json()["differing_fields"]) == (422, differing)
    revoked = post(f"/{second}/revocations", {}, "revoke")
    assert revoked.json()["revoked_at"] and "Idempotency-Replayed" not in revoked.headers
    again = post(f"/{second}/revocations", {}, "revoke")
    assert again.json() == revoked.json() and again.headers["Idempotency-Replayed"] == "true"
    listed = {key["key_id"]: key for key in asked.ask("GET", "/v1/keys", Role.ADMIN).json()["items"]}
    assert listed[second]["expires_at"] is None, "nobody rotated it"


def test_a_table_of_before_is_taken_over(settings: Settings) -> None:
    migrate_keys(settings.control_dsn)
    store = KeyStore(control_dsn=settings.control_dsn, pepper=b"pepper")
    made = store.create(Role.ADMIN, "shop", "till").key
    with psycopg.connect(settings.control_dsn) as connection:
        connection.execute("alter table api.keys add column idempotency_key text")
        connection.execute("update api.keys set idempotency_key = 'k' where key_id = %s", [made.key_id])
    for _ in range(2):
        migrate_keys(settings.control_dsn)
    again = store.create(Role.ADMIN, "shop", "till", idempotency_key="k")
    assert (again.key, again.text, again.is_replayed) == (made, None, True)


def test_a_key_is_nowhere_in_the_database(settings: Settings) -> None:
    migrate_keys(settings.control_dsn)
    store = KeyStore(control_dsn=settings.control_dsn, pepper=b"pepper")
    made = store.create(Role.OPERATOR, None, "on call")
    assert made.text is not None and store.find(made.text) == made.key
    assert KeyStore(control_dsn=settings.control_dsn, pepper=b"another").find(made.text) is None
    with psycopg.connect(settings.control_dsn) as connection:
        rows = str(connection.execute("select keys::text from api.keys as keys").fetchall())
    assert made.text.rpartition("_")[2] not in rows


def test_the_last_use_is_written_about_once_a_minute(settings: Settings) -> None:
    migrate_keys(settings.control_dsn)
    moments = [store_now := KeyStore(control_dsn=settings.control_dsn, pepper=b"pepper").clock()]
    store = KeyStore(control_dsn=settings.control_dsn, pepper=b"pepper", clock=lambda: moments[-1])
    text = store.create(Role.OPERATOR, None, "on call").text or ""
    for seconds in (0, 30, 59, 61):
        moments.append(store_now + timedelta(seconds=seconds))
        store.find(text)
    (key,) = store.keys()
    assert key.last_used_at == store_now + timedelta(seconds=61)
    moments.append(store_now + timedelta(seconds=90))
    store.find(text)
    assert store.keys()[0].last_used_at == store_now + timedelta(seconds=61)


def test_a_command_follows_its_merchant_to_another_pod(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    order = asked.shop.place(("PIN", 1))
    command = CancelOrder(merchant_id=MERCHANT, order_id=order.order_id)
    really, fenced, keys = command_execute, [1], []

    def execute(pod: Any, command: Any, **given: Any) -> Any:
        keys.append(given["idempotency_key"])
        if fenced:
            fenced.pop()
            raise PodFencedError("It has moved.")
        return really(pod, command, **given)

    monkeypatch.setattr(api.pods, "execute", execute)
    pods = Pods(asked.settings)
    pods.home(MERCHANT)
    done = pods.execute(command, idempotency_key="while-it-moves")
    assert keys == ["while-it-moves"] * 2 and done.answer.cancelled_minor == order.total_minor
    fenced += [1] * FENCED_ATTEMPTS
    with pytest.raises(PodFencedError):
        pods.execute(command, idempotency_key="while-it-moves")
    pods.close()
