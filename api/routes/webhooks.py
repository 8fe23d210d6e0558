"""Routes of a merchant's endpoints for webhooks.

Belongs here: a merchant's admin looks after its endpoints, asks how far each is, and has events told again. Does not
belong here: sending (`derived/webhooks/`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any

import msgspec

from api.calls import Answer, Call
from api.commands import REPLAYED
from api.cursors import Page, PageQuery, page_of, position_after
from api.declaring import Criticality, Route, Work
from api.roles import ADMINS
from api.routes.keys import NoBody
from api.webhooks.shown import DeliveryStanding, Replayed, WebhookMessage
from api.webhooks.store import OVERLAP, OVERLAP_MAX, Done, Endpoint, Wanted
from contracts.errors import ConflictError, InputError
from contracts.limits import Note, Reference, StoredName, Title
from contracts.webhooks import EVENT_TYPES, URL_CHARACTERS_MAX

Address = Annotated[str, msgspec.Meta(min_length=1, max_length=URL_CHARACTERS_MAX)]
Types = Annotated[list[str], msgspec.Meta(min_length=1, max_length=len(EVENT_TYPES))]


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, without its secret."""

    endpoint_id: str
    url: str
    event_types: list[str]
    description: str
    is_enabled: bool
    version: int
    earlier_secret_until: datetime | None
    """Until then messages are signed with the earlier secret, too."""
    created_at: datetime
    changed_at: datetime


class NewSecret(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint with a new secret, which is shown this once."""

    endpoint: WebhookEndpoint
    secret: str | None
    """The secret; null in the answer to a repeated request: rotate it if you do not have it."""


class EndpointBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to send which events."""

    url: Address
    event_types: Types
    description: Title = ""
    is_enabled: bool = True


class EndpointChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; what is left out stays."""

    url: Address | None = None
    event_types: Types | None = None
    description: Title | None = None
    is_enabled: bool | None = None


class SecretBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to change the secret."""

    overlap_seconds: Annotated[int, msgspec.Meta(ge=0, le=int(OVERLAP_MAX.total_seconds()))] = int(
        OVERLAP.total_seconds()
    )
    """How long messages are signed with the earlier secret, too."""


class ReplayBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on to tell again: a cut of a pod, or a time. Told is every event that the endpoint wants now."""

    is_preview: bool = True
    """Only say what would be told."""
    pod: StoredName | None = None
    from_cut: Annotated[int, msgspec.Meta(ge=1, le=2**62)] | None = None
    from_time: datetime | None = None


class SkipBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which message is skipped, and why."""

    event_id: Reference
    """Its Webhook-Id; of a parked endpoint `parked_because` names it."""
    reason: Note
    """Kept with the message, and shown in the standing."""
    is_preview: bool = True
    """Only say which message that is."""


def list_endpoints(call: Call) -> Answer:
    """Return a page of the merchant's endpoints, by id."""
    scope = ("webhook-endpoints", call.merchant_id)
    after = position_after(call.services.cursors, scope, call.query.after)
    store = call.services.webhooks
    found = store.endpoints(call.merchant_id, after=after[0] if after else "", limit=call.query.limit + 1)
    shown = [_page(one) for one in found]
    return Answer(value=page_of(call.services.cursors, scope, shown, call.query.limit, lambda one: (one.endpoint_id,)))


def get_endpoint(call: Call) -> Answer:
    """Return one endpoint."""
    found = call.services.webhooks.find(call.merchant_id, call.text("endpoint_id"))
    return Answer(value=_page(found), version=found.version)


def create_endpoint(call: Call) -> Answer:
    """Register an endpoint. Its secret is in this answer and nowhere else.

    It is told the events that are committed from now on; earlier ones can be replayed. Messages are signed as Standard
    Webhooks says, and come at least once, those about one order, payment, refund or fulfillment in their order.
    """
    body: EndpointBody = call.body
    wanted = Wanted(**msgspec.structs.asdict(body))
    done = call.services.webhooks.register(call.merchant_id, wanted, idempotency_key=call.idempotency_key)
    return _new_secret(done)


def change_endpoint(call: Call) -> Answer:
    """Change an endpoint. A disabled one is told nothing of what happens meanwhile, which can be replayed later."""
    body: EndpointChange = call.body
    wanted = Wanted(**msgspec.structs.asdict(body))
    done = call.services.webhooks.change(
        call.merchant_id,
        call.text("endpoint_id"),
        wanted,
        idempotency_key=call.idempotency_key,
        expected_version=call.expected_version,
    )
    return _answer(done)


def remove_endpoint(call: Call) -> Answer:
    """Remove an endpoint. Nothing more is sent to it, and what waited for it is dropped."""
    endpoint_id = call.text("endpoint_id")
    return _answer(call.services.webhooks.remove(call.merchant_id, endpoint_id, idempotency_key=call.idempotency_key))


def rotate_secret(call: Call) -> Answer:
    """Give an endpoint a new secret; messages carry a signature with the earlier one, too, for a while."""
    overlap = timedelta(seconds=call.body.overlap_seconds)
    done = call.services.webhooks.rotate(
        call.merchant_id, call.text("endpoint_id"), overlap, idempotency_key=call.idempotency_key
    )
    return _new_secret(done)


def resume_endpoint(call: Call) -> Answer:
    """Let a parked endpoint go on, beginning with what waits the longest."""
    endpoint_id = call.text("endpoint_id")
    return _answer(call.services.webhooks.resume(call.merchant_id, endpoint_id, idempotency_key=call.idempotency_key))


def replay_events(call: Call) -> Answer:
    """Tell events again from a cut or a time on. By default this only says what it would tell.

    Each message has the Webhook-Id that it had before. A request under a new Idempotency-Key tells them once more.
    """
    body: ReplayBody = call.body
    if (body.from_cut is None) == (body.from_time is None) or (body.pod is None) != (body.from_cut is None):
        raise InputError("Name either a time, or a pod and a cut.")
    endpoint = call.services.webhooks.find(call.merchant_id, call.text("endpoint_id"))
    replay = partial(
        call.services.operations.webhook_replay,
        endpoint.endpoint_id,
        pod=body.pod,
        from_cut=body.from_cut,
        from_time=body.from_time,
        is_preview=body.is_preview,
    )
    return _once(call, "replay", endpoint, replay, Replayed)


def skip_message(call: Call) -> Answer:
    """Skip one message that a parked endpoint can never take. By default this only says which message that is.

    Of one order, payment, refund or fulfillment nothing is told before what is older, so such a message holds up those
    after it. The endpoint is not told of it, and its standing says so, until a replay. Resume the endpoint afterwards.
    """
    body: SkipBody = call.body
    endpoint = call.services.webhooks.find(call.merchant_id, call.text("endpoint_id"))
    skip = partial(
        call.services.operations.webhook_skip,
        endpoint.endpoint_id,
        body.event_id,
        by=f"key {call.caller.key_id}" if call.caller else "",
        reason=body.reason,
        is_preview=body.is_preview,
    )
    return _once(call, "skip", endpoint, skip, WebhookMessage)


def get_standing(call: Call) -> Answer:
    """Return how far an endpoint is: what waits, and up to which cut it is proven to have been told everything."""
    endpoint = call.services.webhooks.find(call.merchant_id, call.text("endpoint_id"))
    return Answer(
        value=msgspec.convert(call.services.operations.webhook_standing(endpoint.endpoint_id), DeliveryStanding)
    )


def _once(call: Call, do: str, endpoint: Endpoint, work: Callable[[], dict[str, Any]], kind: type[Any]) -> Answer:
    """Do what a request asks of an endpoint's messages, once per Idempotency-Key."""
    asked = {"do": do, "of": endpoint.endpoint_id, **msgspec.to_builtins(call.body)}
    done, is_replayed = call.services.webhooks.once(call.merchant_id, call.idempotency_key, asked, work)
    return Answer(value=msgspec.convert(done, kind), headers={REPLAYED: "true"} if is_replayed else {})


def _page(found: Endpoint) -> WebhookEndpoint:
    names = set(WebhookEndpoint.__struct_fields__) - {"earlier_secret_until"}
    return WebhookEndpoint(earlier_secret_until=found.earlier_until, **{name: getattr(found, name) for name in names})


def _answer(done: Done) -> Answer:
    headers = {REPLAYED: "true"} if done.is_replayed else {}
    return Answer(value=_page(done.endpoint), headers=headers, version=done.endpoint.version)


def _new_secret(done: Done) -> Answer:
    headers = {REPLAYED: "true"} if done.is_replayed else {}
    return Answer(value=NewSecret(endpoint=_page(done.endpoint), secret=done.secret), headers=headers)


def _route(name: str, method: str, path: str, summary: str, **more: Any) -> Route:
    common: dict[str, Any] = {"criticality": Criticality.PAGE, "deadline_seconds": 5.0, **more}
    return Route(
        **common,
        name=name,
        method=method,
        path=f"/v1/webhook-endpoints{path}",
        summary=summary,
        roles=ADMINS,
        work=Work.ADMIN,
        is_command=method != "GET",
        parameters={"endpoint_id": "The endpoint's id"} if path else {},
    )


ROUTES: tuple[Route, ...] = (
    _route(
        "list_webhook_endpoints",
        "GET",
        "",
        "The merchant's endpoints for webhooks, page by page",
        handler=list_endpoints,
        answer=Page[WebhookEndpoint],
        query=PageQuery,
    ),
    _route(
        "create_webhook_endpoint",
        "POST",
        "",
        "Register an endpoint for webhooks",
        handler=create_endpoint,
        answer=NewSecret,
        body=EndpointBody,
        status=201,
        raises=(ConflictError,),
    ),
    _route(
        "get_webhook_endpoint",
        "GET",
        "/{endpoint_id}",
        "One endpoint for webhooks",
        handler=get_endpoint,
        answer=WebhookEndpoint,
        has_version=True,
    ),
    _route(
        "change_webhook_endpoint",
        "PATCH",
        "/{endpoint_id}",
        "Change, disable or enable an endpoint",
        handler=change_endpoint,
        answer=WebhookEndpoint,
        body=EndpointChange,
        has_version=True,
    ),
    _route(
        "remove_webhook_endpoint",
        "POST",
        "/{endpoint_id}/removals",
        "Remove an endpoint",
        handler=remove_endpoint,
        answer=WebhookEndpoint,
        body=NoBody,
    ),
    _route(
        "rotate_webhook_secret",
        "POST",
        "/{endpoint_id}/secrets",
        "Give an endpoint a new secret",
        handler=rotate_secret,
        answer=NewSecret,
        body=SecretBody,
        status=201,
    ),
    _route(
        "resume_webhook_endpoint",
        "POST",
        "/{endpoint_id}/resumptions",
        "Let a parked endpoint go on",
        handler=resume_endpoint,
        answer=WebhookEndpoint,
        body=NoBody,
    ),
    _route(
        "replay_webhooks",
        "POST",
        "/{endpoint_id}/replays",
        "Tell events again, from a cut or a time on",
        handler=replay_events,
        answer=Replayed,
        body=ReplayBody,
        criticality=Criticality.REPORT,
        deadline_seconds=60.0,
        raises=(ConflictError,),
    ),
    _route(
        "skip_webhook_message",
        "POST",
        "/{endpoint_id}/skips",
        "Skip one message that a parked endpoint can never take",
        handler=skip_message,
        answer=WebhookMessage,
        body=SkipBody,
        raises=(ConflictError,),
    ),
    _route(
        "get_webhook_standing",
        "GET",
        "/{endpoint_id}/standing",
        "How far an endpoint is, and up to which cut that is proven",
        handler=get_standing,
        answer=DeliveryStanding,
        criticality=Criticality.REPORT,
        deadline_seconds=10.0,
    ),
)
