"""Cursors, positions and keys: what clients carry for us is opaque to them, and they cannot change it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.calls import Caller
from api.cursors import page_of, position_after
from api.declaring import Role
from api.keys.forms import digest_of, is_key, new_key, readable
from api.keys.ring import FRESH_SECONDS, RETRY_SECONDS, STALE_SECONDS_MAX, KeyRing
from api.keys.store import Key
from api.pods import _whole_xid
from api.positions import Position, position_of, token_of
from api.signing import Signer, derived_secret
from contracts.errors import InputError, StackError, UnauthenticatedError

SIGNER = Signer(derived_secret("a pepper", "cursors"), "cursor")
OTHER = Signer(derived_secret("a pepper", "positions"), "position")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_signed_value_comes_back_as_it_was() -> None:
    for value in (b"", b"x", bytes(range(256))):
        assert SIGNER.read(SIGNER.sign(value)) == value


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "é", "x" * 5_000, SIGNER.sign(b"value")[:-1]])
def test_what_we_have_not_signed_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        SIGNER.read(text)


def test_a_value_of_one_purpose_is_none_of_another() -> None:
    with pytest.raises(InputError, match="position"):
        OTHER.read(SIGNER.sign(b"value"))


def test_a_changed_byte_anywhere_is_noticed() -> None:
    text = SIGNER.sign(b"some value")
    for index in range(len(text) - 1):
        changed = text[:index] + ("A" if text[index] != "A" else "B") + text[index + 1 :]
        with pytest.raises(InputError):
            SIGNER.read(changed)


def test_a_position_survives_its_token() -> None:
    position = Position(pod="pod1", lsn="0/16B3748", xid=2**40)
    assert position_of(OTHER, token_of(OTHER, position)) == position


def test_pages_begin_after_the_last_item_whatever_was_inserted() -> None:
    items = [f"{number:03}" for number in range(0, 100, 2)]
    scope, seen, cursor = ("things", "merchant"), [], None
    while True:
        after = position_after(SIGNER, scope, cursor)
        rest = sorted(item for item in items if after is None or item > after[0])
        page = page_of(SIGNER, scope, rest[: 7 + 1], 7, lambda item: (item,))
        seen += page.items
        # Before and after the cursor: what is inserted behind it is not shown, what comes later is.
        items += [f"{int(page.items[0]):03}a", f"{int(page.items[-1]) + 1:03}"] if len(items) < 90 else []
        if page.next is None:
            break
        cursor = page.next
    assert len(seen) == len(set(seen)) and seen == sorted(seen)
    assert set(f"{number:03}" for number in range(0, 100, 2)) <= set(seen)


def test_a_cursor_of_another_merchant_is_refused() -> None:
    page = page_of(SIGNER, ("orders", "mine"), ["a", "b"], 1, lambda item: (item,))
    with pytest.raises(InputError, match="another list"):
        position_after(SIGNER, ("orders", "yours"), page.next)


@pytest.mark.parametrize("role", list(Role))
def test_a_key_is_long_random_and_says_what_it_is(role: Role) -> None:
    key = new_key(role)
    assert is_key(key.text) and key.text.startswith(readable(role, key.key_id))
    assert len(key.text.removeprefix(readable(role, key.key_id) + "_")) == 43
    assert key.text not in repr(key)
    assert not is_key(key.text + "x") and not is_key(key.text.replace(role, "owner"))
    assert digest_of(b"one pepper", key.text) != digest_of(b"another", key.text)


def test_the_lower_half_of_a_transaction_id_finds_its_upper_half() -> None:
    newest = (3 << 32) | 5
    assert _whole_xid(4, newest) == (3 << 32) | 4
    assert _whole_xid(0xFFFFFFFF, newest) == (2 << 32) | 0xFFFFFFFF


class Store:
    """Keys that the test changes, and a clock that it moves."""

    def __init__(self) -> None:
        self.key: Key | None = Key(
            key_id="1" * 12,
            merchant_id="shop",
            role=Role.ADMIN,
            label="",
            created_at=NOW,
            expires_at=None,
            revoked_at=None,
            last_used_at=None,
        )
        self.is_down = False
        self.reads = 0

    def clock(self) -> datetime:
        return NOW

    def find(self, text: str) -> Key | None:
        self.reads += 1
        if self.is_down:
            raise StackError("down")
        return self.key


class Ring:
    def __init__(self) -> None:
        self.store, self.now, self.text = Store(), 0.0, new_key(Role.ADMIN).text
        ring: Any = self.store
        self.ring = KeyRing(ring, lambda: self.now)

    def caller(self) -> Caller:
        return self.ring.caller(self.text)


def test_a_key_is_read_again_after_half_a_second() -> None:
    ring = Ring()
    assert ring.caller() == Caller(key_id="1" * 12, role=Role.ADMIN, merchant_id="shop")
    ring.store.key = None
    assert ring.caller().merchant_id == "shop" and ring.store.reads == 1
    ring.now += FRESH_SECONDS + 0.01
    with pytest.raises(UnauthenticatedError):
        ring.caller()


def test_a_known_key_outlives_an_outage_of_the_control_database_for_a_while() -> None:
    ring = Ring()
    ring.caller()
    ring.store.is_down = True
    ring.now += STALE_SECONDS_MAX - RETRY_SECONDS - 1
    for _ in range(3):
        # Asked once: a store that does not answer takes seconds to say so.
        assert ring.caller().merchant_id == "shop" and ring.store.reads == 2
    ring.now += RETRY_SECONDS + 2
    with pytest.raises(StackError):
        ring.caller()


def test_an_expired_key_opens_nothing() -> None:
    ring = Ring()
    assert ring.store.key is not None
    ring.store.key = Key(**{**vars(ring.store.key), "expires_at": NOW - timedelta(seconds=1)})
    with pytest.raises(UnauthenticatedError, match="expired"):
        ring.caller()


def test_what_is_no_key_is_not_looked_up() -> None:
    ring = Ring()
    with pytest.raises(UnauthenticatedError):
        ring.ring.caller("tieout_admin_guess")
    assert ring.store.reads == 0
