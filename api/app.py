"""The application: all routes, on FastAPI.

    app = build_app(build_services(settings, pepper))

Belongs here: putting routes, middleware and the OpenAPI document together. Does not belong here: starting a server
(`stack/upkeep/serving.py`), a route of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.routing import Route as ServedRoute

from api.declaring import Route
from api.dispatch import endpoint_of
from api.middleware import Requests, request_id_of
from api.openapi import document
from api.problems import problem_answer
from api.routes import ROUTES
from api.services import Services
from contracts.errors import InputError, UnknownPathError, WrongMethodError

OPENAPI_PATH = "/v1/openapi.json"
OWN_NAMES = ("customer_id", "merchant_id")
"""Parameters of paths that are free texts; all others are ids of ours, or names without slashes."""


def build_app(services: Services, routes: Sequence[Route] = ROUTES) -> FastAPI:
    """Return the application; it closes `services` when its server ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        services.close()

    app = FastAPI(
        title="Tieout",
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={HTTPException: _told},
    )
    for route in routes:
        # A route of Starlette: FastAPI's own would solve dependencies, of which ours have none, for every request.
        app.add_route(
            _served(route.path),
            endpoint_of(route, services),
            methods=["GET", "HEAD"] if route.method == "GET" else [route.method],
            name=route.name,
            include_in_schema=False,
        )
    app.openapi = lambda: document(routes)  # type: ignore[method-assign]
    app.add_middleware(Requests)
    return app


def _served(path: str) -> str:
    """Return a route's path as Starlette matches it: a merchant's own names may have slashes, which come decoded."""
    for name in OWN_NAMES:
        path = path.replace(f"{{{name}}}", f"{{{name}:path}}")
    return path


async def _told(request: Request, error: Exception) -> Response:
    """Tell what Starlette itself refuses: an unknown path, or a method that a path does not have."""
    request_id = request_id_of(request.scope)
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        allow = ", ".join(sorted(_methods(request)))
        refusal = WrongMethodError(f"{request.url.path} cannot be asked by {request.method[:20]}; it takes {allow}.")
        return problem_answer(refusal, request_id, allow=allow)
    if status == 404:
        return problem_answer(UnknownPathError("There is no such path."), request_id)
    return problem_answer(InputError("The request is not understood."), request_id)


def _methods(request: Request) -> set[str]:
    """Return the methods of all routes with this path; a router only tells those of the first."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, ServedRoute) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found
