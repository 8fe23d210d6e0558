"""Sessions: which device is on the other side, and which customer has signed in there. Valkey alone has them.

A session is found by its token, which is random and says nothing; the server stores only a digest of it, so nobody who
reads the server's memory can use a session. A lost session means to sign in again, and nothing else: a customer's cart
is found by the customer. An anonymous cart whose session is lost is found by nobody, and expires.

Belongs here: sessions. Does not belong here: who a customer is, passwords, cookies (whoever signs customers in).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import cast

import msgspec

from contracts.carts import CartKey, cart_of_customer
from contracts.ids import NewId, uuid7
from oltp.carts.valkey_server import CartServer, told_errors

KEY = "session:"
SESSION_SECONDS = 30 * 86_400
"""How long a session lives that nobody uses."""
TOKEN_BYTES = 32


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One device's session with one merchant."""

    merchant_id: str
    device_id: str
    anonymous_cart_id: str
    customer_id: str | None = None

    @property
    def anonymous_cart(self) -> CartKey:
        """The cart of the device while nobody has signed in."""
        return CartKey(merchant_id=self.merchant_id, cart_id=self.anonymous_cart_id)

    @property
    def cart(self) -> CartKey:
        """The cart that the device shows."""
        if self.customer_id is None:
            return self.anonymous_cart
        return cart_of_customer(self.merchant_id, self.customer_id)


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """The sessions of all merchants. Methods raise CartUnavailableError when the server is away."""

    server: CartServer
    seconds: int = SESSION_SECONDS
    new_id: NewId = uuid7

    def begin(self, merchant_id: str) -> tuple[str, Session]:
        """Begin a session of a device that has none; return its token and the session."""
        device_id, cart_id = secrets.token_hex(8), str(self.new_id())
        session = Session(merchant_id=merchant_id, device_id=device_id, anonymous_cart_id=cart_id)
        return self._stored(session), session

    @told_errors
    def find(self, token: str) -> Session | None:
        """Return the session of a token and let it live on; None when there is none: sign in again."""
        text = cast(bytes | None, self.server.client.getex(_key(token), ex=self.seconds))
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=Session)
        except msgspec.MsgspecError:
            return None

    def sign_in(self, token: str, session: Session, customer_id: str) -> tuple[str, Session]:
        """Bind a customer to the device; return the new token and session. The old token ends.

        Whoever knew the token before the sign-in must not be signed in by it.
        """
        signed_in = msgspec.structs.replace(session, customer_id=customer_id)
        new_token = self._stored(signed_in)
        self.end(token)
        return new_token, signed_in

    def sign_out(self, token: str, session: Session) -> tuple[str, Session]:
        """End the session; return a new anonymous one of the same device, with a new cart."""
        cart_id = str(self.new_id())
        anonymous = Session(merchant_id=session.merchant_id, device_id=session.device_id, anonymous_cart_id=cart_id)
        self.end(token)
        return self._stored(anonymous), anonymous

    @told_errors
    def end(self, token: str) -> None:
        """Forget a session."""
        self.server.client.delete(_key(token))

    @told_errors
    def _stored(self, session: Session) -> str:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self.server.client.set(_key(token), msgspec.json.encode(session), ex=self.seconds)
        return token


def _key(token: str) -> str:
    return KEY + hashlib.sha256(token.encode()).hexdigest()
