"""Errors as answers: problem+json (RFC 9457), and what an unexpected error is told as.

Belongs here: the body and the headers of a problem. Does not belong here: which types there are
(`contracts/problems.py`).
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from contracts.errors import (
    IdempotencyConflictError,
    InputError,
    OverloadedError,
    TieoutError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from contracts.problems import problem_type
from contracts.text import visible_lines

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1


class Problem(msgspec.Struct, frozen=True, kw_only=True, rename={"is_retryable": "retryable"}):
    """The body of every answer that is an error."""

    type: str
    """The path of the page that explains this type; a client may decide by it."""
    title: str
    status: int
    detail: str
    """What was wrong in this case, in a sentence for people."""
    is_retryable: bool
    """Whether the same request may succeed later."""
    request_id: str
    """Also in the header Tieout-Request-Id; operators find the request by it."""
    differing_fields: list[str] = []
    """Fields in which a command differs from the one that used its idempotency key first."""


class InternalError(TieoutError):
    """The service failed in a way that it does not expect."""


def problem_answer(error: TieoutError, request_id: str, *, allow: str = "") -> Response:
    """Return the answer that tells an error."""
    problem = problem_type(TieoutError if isinstance(error, InternalError) else type(error))
    body = Problem(
        type=problem.address,
        title=problem.title,
        status=problem.status,
        detail=_detail(error, problem.status),
        is_retryable=problem.is_retryable,
        request_id=request_id,
        differing_fields=list(error.fields) if isinstance(error, IdempotencyConflictError) else [],
    )
    headers = {"Allow": allow} if allow else {}
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, OverloadedError | TooManyRequestsError):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Response(msgspec.json.encode(body), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def unexpected() -> InternalError:
    """Return what a client is told of an error that is not one of ours: nothing but that it happened."""
    return InternalError("The service failed. Its log has the cause under this request's id.")


def _detail(error: TieoutError, status: int) -> str:
    # Sentences about servers name hosts, roles and databases, which are no business of a client.
    if status == 503 and not isinstance(error, InputError | OverloadedError):
        return "A part of the system does not answer at the moment."
    return visible_lines(str(error))
