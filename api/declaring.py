"""What every route declares: its path, who may ask, how important it is, how long it may take, what goes in and out.

Belongs here: this declaration. Does not belong here: the routes (`api/routes/`), serving them (`api/dispatch.py`).
Everything that holds for all routes follows from the declarations: the OpenAPI document, the matrix of routes and roles
that tests go through. What is refused first when there is too much work follows from the criticality, in
`api/executors.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

from contracts.errors import TieoutError

if TYPE_CHECKING:
    from api.calls import Call


class Role(StrEnum):
    """What a key may do."""

    STOREFRONT = "storefront"
    """Sells for one merchant."""
    ADMIN = "admin"
    """Manages one merchant."""
    OPERATOR = "operator"
    """Looks after the system; has no merchant."""


class Criticality(IntEnum):
    """How important an answer is. What is refused first under load: `SHARES` in `api/executors.py`."""

    REPORT = 1
    """Search, exports, reports."""
    PAGE = 2
    """Pages that customers and staff look at."""
    CART = 3
    CHECKOUT = 4
    """What takes money or stock."""


class Work(StrEnum):
    """The class of work: each has its own threads, so one cannot take all of them from another."""

    CHECKOUT = "checkout"
    STOREFRONT = "storefront"
    ADMIN = "admin"
    OPERATOR = "operator"
    PROVIDER = "provider"
    """Taking the payment provider's notifications."""
    IDENTITY = "identity"
    """Looking up keys; no route has this class."""


Handler = Callable[["Call"], Any]
"""Takes a call and returns an `Answer`. A plain function runs in a thread of its class of work; an `async def` runs on
the event loop and must not block it."""

ANYBODY: frozenset[Role] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Route:
    """One route. Paths are under ``/v1`` and name their parameters in braces."""

    name: str
    """Unique; the operation's id in OpenAPI, by which generated clients name their functions."""
    method: str
    path: str
    summary: str
    handler: Handler
    roles: frozenset[Role]
    """Who may ask; empty: anybody, without a key."""
    criticality: Criticality
    work: Work
    deadline_seconds: float
    answer: Any
    """The type of the answer's body; None: no body, `bytes`: a file."""
    status: int = 200
    body: type[Any] | None = None
    """The struct of the request's body."""
    query: type[Any] | None = None
    """The struct of the query's parameters; all have defaults."""
    is_command: bool = False
    """Whether it changes something, and so needs an idempotency key."""
    takes_position: bool = False
    """Whether a read takes Tieout-Position, and then holds the write that returned it."""
    takes_session: bool = False
    """Whether it is for the device whose token is in the header Tieout-Session."""
    is_signed: bool = False
    """Whether the payment provider signs it, with Provider-Signature; it then has no roles."""
    has_version: bool = False
    """Whether the answer has an ETag; a command then takes If-Match."""
    description: str = ""
    """What a client should know beyond the summary; empty: the handler's docstring."""
    media_type: str = "application/json"
    max_age_seconds: int = 0
    """How long anybody may keep the answer; 0: nobody may."""
    raises: tuple[type[TieoutError], ...] = ()
    """The domain errors that a client should expect, beside those of every route."""
    deprecated_at: datetime | None = None
    """Since when clients should leave it (RFC 9745)."""
    sunset_at: datetime | None = None
    """When it will be gone (RFC 8594); not before `deprecated_at`."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What each path parameter is, in words."""
