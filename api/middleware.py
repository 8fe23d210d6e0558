"""Pure ASGI around the routes: an id for every request, and every error as problem+json.

Belongs here: what holds also where no route was found. Does not belong here: what depends on a route
(`api/dispatch.py`).
"""

from __future__ import annotations

import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem_answer, unexpected
from contracts.errors import TieoutError
from contracts.ids import uuid7
from contracts.problems import problem_type

REQUEST_ID = "tieout_request_id"
ROUTE_HEADERS = "tieout_route_headers"
"""The headers of every answer of the route that was found, refusals too."""
HEADER = b"tieout-request-id"
SLOW_SECONDS = 2.0

logger = logging.getLogger("tieout.api")


def request_id_of(scope: Scope) -> str:
    """Return the id of a request."""
    return str(scope.get(REQUEST_ID, ""))


class Requests:
    """Gives every request its id, tells errors as problems, and logs those that nobody expects."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid7())
        scope[REQUEST_ID] = request_id
        answered = False

        async def send_named(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id.encode())]
            elif scope["method"] == "HEAD":
                # The same headers as of a GET, Content-Length too (RFC 9110, 9.3.2); only the body is not sent.
                message = {**message, "body": b""}
            await send(message)

        began = time.monotonic()
        try:
            await self._app(scope, receive, send_named)
        except Exception as error:  # a client gets an answer to every request, and never a traceback
            if answered:
                logger.exception("Request %s failed after its answer had begun.", request_id)
                raise
            told = self._tell(error, request_id)
            # What a client may keep, it may keep of an answer only.
            told.headers.update({**scope.get(ROUTE_HEADERS, {}), "Cache-Control": "no-store"})
            await told(scope, receive, send_named)
        if (seconds := time.monotonic() - began) > SLOW_SECONDS:
            logger.info("Request %s (%s %s) took %.1f s.", request_id, scope["method"], scope["path"], seconds)

    def _tell(self, error: Exception, request_id: str) -> Any:
        if isinstance(error, TieoutError):
            status = problem_type(type(error)).status
            if status >= 500:
                logger.warning("Request %s: %s: %s", request_id, type(error).__name__, error)
            return problem_answer(error, request_id)
        logger.error("Request %s failed.", request_id, exc_info=error)
        return problem_answer(unexpected(), request_id)
