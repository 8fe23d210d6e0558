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
