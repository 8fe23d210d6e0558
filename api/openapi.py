"""The OpenAPI 3.1 document, made from the routes' declarations.

Belongs here: how a declaration is written in OpenAPI. Does not belong here: the declarations (`api/routes/`).

The schemas are those of the structs that are really read and written; every answer that a route can give is listed,
with its headers, so that a generated client knows all of them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from api import copy_headers
from api.declaring import Route
from api.positions import HEADER as POSITION
from api.problems import MEDIA_TYPE, Problem
from api.provider_signatures import HEADER as SIGNATURE
from contracts import errors
from contracts.errors import TieoutError
from contracts.limits import IDEMPOTENCY_KEY
from contracts.problems import problem_type
from oltp.idempotency_keys import KEY_LEASE

OPENAPI = "3.1.0"
REFERENCE = "#/components/schemas/{name}"

ALWAYS: tuple[type[TieoutError], ...] = (
    errors.InputError,
    errors.BodyTooLargeError,
    errors.StackError,
    errors.OverloadedError,
    errors.DeadlineError,
    TieoutError,
)
"""What every route may answer. Each may be sent a body, also one that does not look for it."""
WITH_KEY = (errors.UnauthenticatedError, errors.ForbiddenError, errors.TooManyRequestsError, errors.NotFoundError)
WITH_BODY = (errors.UnparsableBodyError, errors.WrongContentTypeError)
WITH_COMMAND = (errors.KeyMissingError, errors.CommandUnderWayError, errors.IdempotencyConflictError)

DESCRIPTION = f"""Commands and reads of Tieout over HTTP.

- **Keys**: `Authorization: Bearer tieout_<role>_...`. A key belongs to one merchant, or to an operator.
- **Commands** need the header `Idempotency-Key`. The same key with the same body gets the stored answer, with
  `Idempotency-Replayed: true`; with another body, 422 and the fields that differ. A key is kept for {KEY_LEASE.days}
  days.
- **Errors** are problem+json (RFC 9457). `type` is the path of a page that explains it, and never changes; `retryable`
  says whether the same request may succeed later.
- **Reading your writes**: a command answers with `Tieout-Position`, unless no copy shows what it wrote. Send it with a
  read: the answer holds that write.
- **Money** is in whole minor units of the currency (`_minor`), prices in millionths of the major unit (`_micro`).
"""


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of these routes."""
    kinds = [Problem, *_kinds(routes)]
    _, components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": OPENAPI,
        "info": {"title": "Tieout", "version": "1", "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
        },
    }


def _kinds(routes: Iterable[Route]) -> list[Any]:
    found: list[Any] = []
    for route in routes:
        asked = [field.type for field in msgspec.structs.fields(route.query)] if route.query else []
        for kind in (route.answer, route.body, *asked):
            if kind not in (None, bytes) and kind not in found:
                found.append(kind)
    return found


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REFERENCE)
    return schema


def _operation(route: Route) -> dict[str, Any]:
    roles = ", ".join(sorted(route.roles)) or "anybody"
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"{route.description or inspect.getdoc(route.handler)}\n\nFor: {roles}.",
        "tags": [str(route.work)],
        "parameters": _parameters(route),
        "responses": _responses(route),
        "x-tieout-roles": sorted(route.roles),
        "x-tieout-criticality": route.criticality.name.lower(),
        "x-tieout-deadline-seconds": route.deadline_seconds,
    }
    if route.roles:
        operation["security"] = [{"key": []}]
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(route.body)}},
        }
    if route.deprecated_at is not None:
        operation["deprecated"] = True
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)(?::path)?}", route.path)
    found = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": route.parameters.get(name, ""),
            "schema": {"type": "string", "minLength": 1},
        }
        for name in names
    ]
    if route.query is not None:
        found += _query_parameters(route.query)
    if route.is_command:
        schema = {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY.longest, "pattern": "^[!-~]+$"}
        text = "A new random value for each command; the same one when it is repeated."
        found.append(_header("Idempotency-Key", text, schema, is_required=True))
    if route.is_command and route.has_version:
        text = "The ETag that was read; another version by now answers 412."
        found.append(_header("If-Match", text, {"type": "string", "pattern": '^"[0-9]{1,15}"$'}))
    if route.is_signed:
        text = "`t=<Unix time>,v1=<hex of HMAC-SHA256 of the time, a dot and the body>`; `v1` may come several times."
        found.append(_header(SIGNATURE, text, {"type": "string", "minLength": 1}, is_required=True))
    if route.takes_session:
        text = "The token of the device's session."
        found.append(_header("Tieout-Session", text, {"type": "string", "minLength": 1}, is_required=True))
    if route.takes_position:
        found.append(_header(POSITION, "From the answer to a write: this answer then holds it.", {"type": "string"}))
    if route.method == "GET" and route.has_version:
        found.append(_header("If-None-Match", "The ETag that was read; 304 if it still holds.", {"type": "string"}))
    return found


def _query_parameters(query: type[Any]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([query], ref_template=REFERENCE)
    schema = components[query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": text.pop("description", ""),
            "schema": _without_null(text),
        }
        for name, text in ((name, dict(text)) for name, text in schema["properties"].items())
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter: in a query, what is missing is left out and never null."""
    options = [option for option in schema.pop("anyOf", ()) if option != {"type": "null"}]
    if schema.get("default", ...) is None:
        schema.pop("default")
    return {**schema, **(options[0] if len(options) == 1 else {"anyOf": options} if options else {})}


def _header(name: str, text: str, schema: dict[str, Any], *, is_required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": is_required, "description": text, "schema": schema}


def _responses(route: Route) -> dict[str, Any]:
    success: dict[str, Any] = {"description": route.summary, "headers": _answer_headers(route)}
    if route.answer is bytes:
        success["content"] = {route.media_type: {"schema": {}}}
    elif route.answer is not None:
        success["content"] = {route.media_type: {"schema": _schema(route.answer)}}
    responses = {str(route.status): success}
    if route.method == "GET" and route.has_version:
        responses["304"] = {"description": "The caller has this version already."}
    by_status: dict[int, list[str]] = {}
    for error in _errors(route):
        problem = problem_type(error)
        by_status.setdefault(problem.status, []).append(f"`{problem.address}`: {problem.title}")
    for status, texts in sorted(by_status.items()):
        content = {MEDIA_TYPE: {"schema": _schema(Problem)}}
        responses[str(status)] = {"description": "\n".join(sorted(set(texts))), "content": content}
    return responses


def _errors(route: Route) -> list[type[TieoutError]]:
    """Return every error that the route may answer with."""
    found = [*ALWAYS, *route.raises]
    found += WITH_KEY if route.roles else ()
    found += WITH_BODY if route.body is not None else ()
    found += (errors.SignatureError,) if route.is_signed else ()
    found += WITH_COMMAND if route.is_command else ()
    if "{" in route.path:
        found.append(errors.NotFoundError)
    if route.is_command and route.has_version:
        found.append(errors.PreconditionError)
    return found


def _answer_headers(route: Route) -> dict[str, Any]:
    texts = {"Tieout-Request-Id": "The id of the request, by which operators find it."}
    if route.is_command:
        texts[POSITION] = "Where the write is, if copies show it; a read that carries it holds the write."
        texts["Idempotency-Replayed"] = "`true`: the command ran earlier, and this is its stored answer."
    if route.takes_position:
        texts |= copy_headers.TEXTS
    if route.has_version:
        texts["ETag"] = "The version of the resource."
    if route.deprecated_at is not None:
        texts["Deprecation"] = "Since when this route is deprecated (RFC 9745)."
    if route.sunset_at is not None:
        texts["Sunset"] = "When this route will be gone (RFC 8594)."
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in texts.items()}
