"""One request as a route's handler sees it, and the answer that it returns.

Belongs here: these values. Does not belong here: how they come about (`api/dispatch.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from api.declaring import Role, Route
from contracts.errors import ForbiddenError, NotFoundError
from contracts.limits import STORED_NAME, UUID
from contracts.text import visible

if TYPE_CHECKING:
    from api.services import Services


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks: the key's id, its role, and its merchant (None: an operator)."""

    key_id: str
    role: Role
    merchant_id: str | None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request that was let in: known caller, parsed body, checked parameters."""

    services: Services
    route: Route
    request_id: str
    caller: Caller | None
    path: Mapping[str, str]
    query: Any
    """A value of the route's `query`; None without one."""
    body: Any
    """A value of the route's `body`; None without one."""
    headers: Mapping[str, str]
    """By lower-case names."""
    idempotency_key: str = ""
    raw: bytes = b""
    """The body as it was sent, of a route that is signed."""
    expected_version: int | None = None
    """The version in If-Match; None: the caller does not mind."""

    @property
    def merchant_id(self) -> str:
        """The merchant of the caller's key: nothing in a request can name another one."""
        if self.caller is None or self.caller.merchant_id is None:
            raise ForbiddenError("This key belongs to no merchant.")
        return self.caller.merchant_id

    def text(self, name: str) -> str:
        """Return a path parameter that is a merchant's own name; NotFoundError where no store can hold it."""
        value = self.path[name]
        if STORED_NAME.problem(value):
            raise NotFoundError(f"There is nothing with the name {visible(value[:100])!r} here.")
        return value

    def uuid(self, name: str) -> str:
        """Return a path parameter that is the id of something; NotFoundError where nothing can have such an id."""
        value = self.path[name]
        if UUID.problem(value):
            raise NotFoundError(f"There is nothing with the id {visible(value[:100])!r} here.")
        return value


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a handler returns. `value` is encoded as JSON, unless it is bytes already."""

    value: Any
    status: int | None = None
    """None: the route's status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None
    """Makes the ETag."""
    media_type: str | None = None
