"""Routes of a merchant's own API keys.

Belongs here: a merchant's admin looks after its keys. Does not belong here: keys of operators, which `tieout keys`
makes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from api.calls import Answer, Call
from api.commands import REPLAYED
from api.cursors import Page, PageQuery, page_of, position_after
from api.declaring import Criticality, Role, Route, Work
from api.keys.store import OVERLAP, OVERLAP_MAX, Key, Made
from api.roles import ADMINS
from contracts.errors import ConflictError
from contracts.limits import Title


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    key_id: str
    readable: str
    """How the key begins."""
    role: Role
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""


class MadeKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key; its text is shown this once."""

    key: KeyPage
    text: str | None
    """The key; null in the answer to a repeated request, because nobody has it any more: rotate the key then."""


class KeyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which key to make."""

    role: Role
    label: Title


class RotationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to rotate a key."""

    overlap_seconds: Annotated[int, msgspec.Meta(ge=0, le=int(OVERLAP_MAX.total_seconds()))] = int(
        OVERLAP.total_seconds()
    )
    """How long the old key still works."""


class NoBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An empty object."""


def list_keys(call: Call) -> Answer:
    """Return a page of the merchant's keys, by id, revoked ones too."""
    scope = ("keys", call.merchant_id)
    after = position_after(call.services.cursors, scope, call.query.after)
    found = call.services.keys.keys(call.merchant_id, after=after[0] if after else "", limit=call.query.limit + 1)
    shown = [_page(key) for key in found]
    return Answer(value=page_of(call.services.cursors, scope, shown, call.query.limit, lambda key: (key.key_id,)))


def create_key(call: Call) -> Answer:
    """Make a key of the merchant. Its text is in this answer and nowhere else."""
    body: KeyBody = call.body
    made = call.services.keys.create(body.role, call.merchant_id, body.label, idempotency_key=call.idempotency_key)
    return _made(made)


def rotate_key(call: Call) -> Answer:
    """Make a key that takes the place of another one, which still works for a while."""
    body: RotationBody = call.body
    made = call.services.keys.rotate(
        call.text("key_id"),
        overlap=timedelta(seconds=body.overlap_seconds),
        merchant_id=call.merchant_id,
        idempotency_key=call.idempotency_key,
    )
    return _made(made)


def revoke_key(call: Call) -> Answer:
    """Let a key open nothing any more, within a second. A revoked key stays revoked."""
    revoked = call.services.keys.revoke(
        call.text("key_id"), merchant_id=call.merchant_id, idempotency_key=call.idempotency_key
    )
    return Answer(value=_page(revoked.key), headers=_replayed(revoked))


def _made(made: Made) -> Answer:
    return Answer(value=MadeKey(key=_page(made.key), text=made.text), headers=_replayed(made))


def _replayed(made: Made) -> dict[str, str]:
    return {REPLAYED: "true"} if made.is_replayed else {}


def _page(key: Key) -> KeyPage:
    return KeyPage(**{name: getattr(key, name) for name in KeyPage.__struct_fields__})


def _route(name: str, method: str, path: str, summary: str, **more: object) -> Route:
    common = {"roles": ADMINS, "criticality": Criticality.PAGE, "work": Work.ADMIN, "deadline_seconds": 5.0}
    return Route(
        **common,  # type: ignore[arg-type]
        name=name,
        method=method,
        path=path,
        summary=summary,
        is_command=method != "GET",
        parameters={"key_id": "The id in the key's beginning"} if "{" in path else {},
        **more,  # type: ignore[arg-type]
    )


ROUTES: tuple[Route, ...] = (
    _route(
        "list_keys",
        "GET",
        "/v1/keys",
        "The merchant's API keys, page by page",
        handler=list_keys,
        answer=Page[KeyPage],
        query=PageQuery,
    ),
    _route(
        "create_key",
        "POST",
        "/v1/keys",
        "Make an API key",
        handler=create_key,
        answer=MadeKey,
        body=KeyBody,
        status=201,
    ),
    _route(
        "rotate_key",
        "POST",
        "/v1/keys/{key_id}/rotations",
        "Make a key that takes another one's place",
        handler=rotate_key,
        answer=MadeKey,
        body=RotationBody,
        status=201,
        raises=(ConflictError,),
    ),
    _route(
        "revoke_key",
        "POST",
        "/v1/keys/{key_id}/revocations",
        "Let a key open nothing any more",
        handler=revoke_key,
        answer=KeyPage,
        body=NoBody,
    ),
)
