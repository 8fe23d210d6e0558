"""The way of every request to its handler: caller, limits, parameters, body, deadline, and the answer's headers.

Belongs here: what is the same for all routes. Does not belong here: what a route does (`api/routes/`), errors as
answers (`api/middleware.py`).
"""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.bodies import parsed, parsed_query, read_body, require_json
from api.calls import Answer, Call, Caller
from api.declaring import Route
from api.middleware import ROUTE_HEADERS, request_id_of
from api.provider_signatures import HEADER as SIGNATURE
from api.provider_signatures import require_signed
from api.services import Services
from contracts.errors import DeadlineError, ForbiddenError, InputError, KeyMissingError, UnauthenticatedError
from contracts.limits import IDEMPOTENCY_KEY
from oltp.commands.checking import check_fields

_ETAG = re.compile(r'(?:W/)?"(\d{1,15})"')

Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint_of(route: Route, services: Services) -> Endpoint:
    """Return what FastAPI calls for a route."""
    is_async = inspect.iscoroutinefunction(route.handler)
    fixed = _fixed_headers(route)

    async def endpoint(request: Request) -> Response:
        until = time.monotonic() + route.deadline_seconds
        request.scope[ROUTE_HEADERS] = fixed
        caller = await _caller(route, services, request)
        with services.counters.counted(caller.key_id) if caller is not None else nullcontext():
            call = await _call(route, services, request, caller)
            if is_async:
                answer = await _in_time(route.handler(call), until, route.deadline_seconds)
            else:
                work = partial(route.handler, call)
                answer = await services.executors.run(route.work, work, until - time.monotonic(), route.criticality)
        return _response(route, call, answer, fixed)

    return endpoint


async def _caller(route: Route, services: Services, request: Request) -> Caller | None:
    """Return who asks; UnauthenticatedError or ForbiddenError when the route is not for them."""
    if not route.roles:
        return None
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise UnauthenticatedError("This path needs an API key: `Authorization: Bearer <key>`.")
    caller = await services.looks.caller(text.strip())
    if caller.role not in route.roles:
        allowed = " or ".join(sorted(route.roles))
        raise ForbiddenError(f"This needs a key of the role {allowed}; this key's role is {caller.role}.")
    return caller


async def _call(route: Route, services: Services, request: Request, caller: Caller | None) -> Call:
    headers = request.headers
    body = await read_body(request)
    if route.is_signed:
        # Before anything is read of it: anybody may send here.
        require_signed(headers.get(SIGNATURE, ""), body, services.provider_secrets, time.time())
    if route.body is not None:
        require_json(headers.get("content-type", ""))
    return Call(
        services=services,
        route=route,
        request_id=request_id_of(request.scope),
        caller=caller,
        path=request.path_params,
        query=_checked(parsed_query(dict(request.query_params), route.query)) if route.query is not None else None,
        body=_body(route, body),
        headers=headers,
        idempotency_key=_idempotency_key(headers.get("idempotency-key", "")) if route.is_command else "",
        raw=body if route.is_signed else b"",
        expected_version=_version_in(headers.get("if-match")) if route.has_version else None,
    )


def _body(route: Route, body: bytes) -> Any:
    """Return the body with its fields checked; the provider's is kept as it says, and checked by whoever stores it."""
    if route.body is None:
        return None
    value = parsed(body, route.body)
    return value if route.is_signed else _checked(value)


def _checked(value: msgspec.Struct) -> msgspec.Struct:
    """Return a body or query; InputError when a field breaks its limit, so that no store is asked what it cannot hold.

    A command checks its own fields as well; not every body becomes one.
    """
    check_fields(value)
    return value


def _idempotency_key(text: str) -> str:
    # The draft's form is a quoted string of a structured header; most clients send it bare.
    key = text.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key:
        raise KeyMissingError("A command needs the header Idempotency-Key.")
    if problem := IDEMPOTENCY_KEY.problem(key):
        raise InputError(f"The header Idempotency-Key {problem}.")
    return key


def _version_in(text: str | None) -> int | None:
    """Return the version in a header If-Match; None: any version will do."""
    if text is None or text.strip() == "*":
        return None
    found = _ETAG.fullmatch(text.strip())
    if found is None:
        raise InputError('The header If-Match holds one ETag of this service, for example "3".')
    return int(found[1])


async def _in_time(work: Awaitable[Any], until: float, seconds: float) -> Any:
    try:
        return await asyncio.wait_for(work, until - time.monotonic())
    except TimeoutError:
        raise DeadlineError(f"There was no answer within {seconds:g} s.") from None


def _response(route: Route, call: Call, answer: Answer, fixed: dict[str, str]) -> Response:
    headers = {**fixed, **answer.headers}
    if answer.version is not None:
        headers["ETag"] = f'"{answer.version}"'
        if route.method == "GET" and headers["ETag"] in _etags(call.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
    if answer.value is None:
        return Response(status_code=answer.status or route.status, headers=headers)
    content = answer.value if isinstance(answer.value, bytes) else msgspec.json.encode(answer.value)
    media_type = answer.media_type or route.media_type
    return Response(content, status_code=answer.status or route.status, headers=headers, media_type=media_type)


def _etags(text: str) -> set[str]:
    return {part.strip().removeprefix("W/") for part in text.split(",")}


def _fixed_headers(route: Route) -> dict[str, str]:
    """Return the headers that every answer of a route has: whose it is, and until when the route is there."""
    seconds = route.max_age_seconds
    headers = {"Cache-Control": f"public, max-age={seconds}" if seconds else "no-store"}
    if route.deprecated_at is not None:
        headers["Deprecation"] = f"@{int(route.deprecated_at.timestamp())}"
    if route.sunset_at is not None:
        headers["Sunset"] = _http_date(route.sunset_at)
    return headers


def _http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
