"""Routes of sessions: a storefront begins one per device, binds the customer who signed in, and ends it.

The storefront knows who a customer is; we only remember it for the device. Sessions are in Valkey alone: a lost one
means to sign in again. A storefront that also keeps the id of the cart goes on serving it meanwhile.

Belongs here: these routes. Does not belong here: what a session is (`oltp/carts/sessions.py`), carts
(`api/routes/carts.py`).
"""

from __future__ import annotations

import msgspec

from api.calls import Answer, Call
from api.declaring import Criticality, Handler, Route, Work
from api.roles import STOREFRONTS
from contracts.carts import cart_of_customer
from contracts.errors import CartUnavailableError, ConflictError, SessionUnknownError
from contracts.limits import CustomerId
from oltp.carts.sessions import Session

HEADER = "tieout-session"
SECONDS = 5.0


class SignInBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The customer whom the storefront has authenticated."""

    customer_id: CustomerId


class SessionShown(msgspec.Struct, frozen=True, kw_only=True):
    """A session. `token` goes into the header Tieout-Session; null: it stays the one that was sent."""

    token: str | None
    device_id: str
    cart_id: str
    """The cart that the device shows."""
    customer_id: str | None
    is_merged: bool | None = None
    """At a sign-in: whether the device's cart is in the customer's now; false: together they hold more than one may."""


def begin_session(call: Call) -> Answer:
    """Begin the session of a device that has none, with an empty cart."""
    token, session = call.services.shoppers.sessions.begin(call.merchant_id)
    return Answer(value=_shown(session, token))


def get_session(call: Call) -> Answer:
    """Return the session of the header Tieout-Session."""
    _, session = _current(call)
    return Answer(value=_shown(session))


def sign_in(call: Call) -> Answer:
    """Bind a customer to the device, and merge the device's anonymous cart into the customer's.

    The old token ends. The merge may be repeated: it changes nothing the second time.
    """
    token, session = _current(call)
    shoppers, customer_id = call.services.shoppers, call.body.customer_id
    # Merged first: the old token is still good when this fails, so the request can be repeated.
    is_merged = session.customer_id is None and _merged(call, session, customer_id)
    new_token, signed_in = shoppers.sessions.sign_in(token, session, customer_id)
    return Answer(value=msgspec.structs.replace(_shown(signed_in, new_token), is_merged=is_merged))


def sign_out(call: Call) -> Answer:
    """End the session; the device gets a new anonymous one with an empty cart."""
    token, session = _current(call)
    new_token, anonymous = call.services.shoppers.sessions.sign_out(token, session)
    return Answer(value=_shown(anonymous, new_token))


def _merged(call: Call, session: Session, customer_id: str) -> bool:
    try:
        call.services.shoppers.carts.sign_in(session.anonymous_cart, cart_of_customer(session.merchant_id, customer_id))
    except ConflictError:
        return False
    return True


def _current(call: Call) -> tuple[str, Session]:
    token = call.headers.get(HEADER, "").strip()
    session = call.services.shoppers.sessions.find(token) if token else None
    if session is None or session.merchant_id != call.merchant_id:
        raise SessionUnknownError("There is no such session; begin one, and let the customer sign in again.")
    return token, session


def _shown(session: Session, token: str | None = None) -> SessionShown:
    return SessionShown(
        token=token,
        device_id=session.device_id,
        cart_id=session.cart.cart_id,
        customer_id=session.customer_id,
    )


def _route(name: str, method: str, path: str, summary: str, handler: Handler, status: int = 200) -> Route:
    return Route(
        name=name,
        method=method,
        path=path,
        summary=summary,
        handler=handler,
        roles=STOREFRONTS,
        criticality=Criticality.CART,
        work=Work.STOREFRONT,
        deadline_seconds=SECONDS,
        answer=SessionShown,
        status=status,
        body=SignInBody if handler is sign_in else None,
        takes_session=handler is not begin_session,
        raises=(CartUnavailableError,) if handler is begin_session else (SessionUnknownError, CartUnavailableError),
    )


ROUTES: tuple[Route, ...] = (
    _route("begin_session", "POST", "/v1/sessions", "Begin a device's session", begin_session, 201),
    _route("get_session", "GET", "/v1/sessions/current", "The session of a device", get_session),
    _route("sign_in", "POST", "/v1/sessions/current/sign-ins", "Bind a customer to a device", sign_in),
    _route("sign_out", "POST", "/v1/sessions/current/sign-outs", "End a session", sign_out),
)
