"""The parts of webhooks that need no server: what is said of an event, pauses, places that we must not connect to."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

from contracts.events import STATE_TYPES
from contracts.events.common import encode_payload
from contracts.webhooks import EVENT_TYPES, TOLD_AGGREGATES, is_public, public_type, url_problem
from derived.webhooks.messages import FIELDS, ToldEvent, body_of
from derived.webhooks.posting import Poster, _at
from derived.webhooks.queue import LONGEST_PAUSE_SECONDS, Due, pause_seconds
from tests.derived_work import NOON, order

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def told(payload: str, schema_version: int) -> ToldEvent:
    return ToldEvent(
        event_id="e1",
        merchant_id="m1",
        aggregate_type="order",
        aggregate_id="o1",
        aggregate_version=1,
        event_type="order_placed",
        schema_version=schema_version,
        occurred_at=NOON,
        recorded_at=NOON,
        position=7,
        payload=payload,
    )


def test_every_public_field_is_one_of_the_state_and_every_told_aggregate_has_some() -> None:
    assert set(FIELDS) == set(TOLD_AGGREGATES)
    for aggregate_type, fields in FIELDS.items():
        assert set(fields) <= set(STATE_TYPES[aggregate_type].__struct_fields__)
        assert "currency" in fields or not any(name.endswith("_minor") for name in fields)
    assert "order.placed" in EVENT_TYPES and public_type("order_units_withdrawn") == "order.units_withdrawn"


def test_a_message_has_the_public_state_and_one_that_cannot_be_read_has_none() -> None:
    state = order(2)
    message = msgspec.json.decode(body_of(told(encode_payload(None, state), state.SCHEMA_VERSION)))
    assert (message["type"], message["subject"]) == ("order.placed", {"type": "order", "id": "o1", "version": 1})
    assert message["data"]["total_minor"] == state.total_minor and len(message["data"]["lines"]) == 2
    assert "reservation_id" not in message["data"] and "reservation_id" not in message["changed"]
    for payload, version in (("{", 1), ("[]", 1), ('{"state": {}}', 99), ('{"state": 3}', state.SCHEMA_VERSION)):
        unreadable = msgspec.json.decode(body_of(told(payload, version)))
        assert (unreadable["data"], unreadable["id"]) == (None, "e1")


def test_pauses_grow_to_an_hour_and_differ_by_chance() -> None:
    chance = random.Random(1)
    pauses = [pause_seconds(attempts, chance) for attempts in range(1, 60)]
    assert 1.0 <= pauses[0] <= 2.0 and LONGEST_PAUSE_SECONDS / 2 <= pauses[-1] <= LONGEST_PAUSE_SECONDS
    assert len(set(pauses[20:])) > 30


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("nonsense", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(address: str, is_open: bool) -> None:
    assert is_public(address) is is_open


def test_a_host_is_opened_by_its_exact_name() -> None:
    assert url_problem("http://127.0.0.1:8000/hook", ["127.0.0.1"]) is None
    assert url_problem("http://127.0.0.1:8000/hook", ["localhost"]) == "must begin with https://"
    assert url_problem("https://shop.example/" + "a" * 2_000, []) == "has more than 2,000 characters"
    assert url_problem("https://shop.example/\nx", []) is not None


def test_a_name_that_stands_for_a_private_address_is_not_connected_to() -> None:
    looked_up: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        looked_up.append(host)
        return ["93.184.215.14", "127.0.0.1"]

    async def post() -> str:
        poster = Poster(master=b"m", open_hosts=(), timeout_seconds=2, resolve=resolve)
        async with poster:
            due = Due("we_1", "https://rebound.example/hook", 1, None, "e1", 0)
            return (await poster.post(due, b"{}", NOW)).reason

    assert "not stand for an address of the open internet" in asyncio.run(post())
    assert looked_up == ["rebound.example"]


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    from urllib.parse import urlsplit

    assert _at(urlsplit("https://shop.example:8443/a?b=c"), "1.2.3.4") == "https://1.2.3.4:8443/a?b=c"
    assert _at(urlsplit("https://shop.example/a"), "2606::1") == "https://[2606::1]/a"


def test_no_secret_is_in_a_text_of_its_holder() -> None:
    poster = Poster(master=b"very secret", open_hosts=(), timeout_seconds=2)
    assert "very secret" not in repr(poster)


def test_what_one_endpoint_sets_as_a_cookie_no_other_one_gets() -> None:
    """Two merchants' endpoints at one address, as behind one proxy."""
    got: list[str | None] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.headers["Cookie"])
            self.send_response(204)
            self.send_header("Set-Cookie", f"session=of{self.path}; Path=/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    async def post(port: int) -> list[bool]:
        async with Poster(master=b"m", open_hosts=("127.0.0.1",), timeout_seconds=5) as poster:
            dues = [Due(f"we_{name}", f"http://127.0.0.1:{port}/{name}", 1, None, "e1", 0) for name in ("a", "b", "a")]
            return [(await poster.post(due, b"{}", NOW)).is_taken for due in dues]

    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            assert asyncio.run(post(server.server_port)) == [True] * 3
        finally:
            server.shutdown()
            thread.join()
    assert got == [None] * 3
