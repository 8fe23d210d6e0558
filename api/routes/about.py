"""Routes for anybody: whether the process serves, and the pages of the problem types.

Belongs here: what needs no key. Does not belong here: anything of a merchant.
"""

from __future__ import annotations

import msgspec

from api.calls import Answer, Call
from api.declaring import ANYBODY, Criticality, Route, Work
from contracts.errors import NotFoundError
from contracts.problems import PROBLEMS_PATH, page, problem_types

MARKDOWN = "text/markdown; charset=utf-8"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """That the process serves."""

    status: str


async def health(call: Call) -> Answer:
    """Say that this process takes requests; it asks no store."""
    return Answer(value=Health(status="ok"))


async def problem_page(call: Call) -> Answer:
    """Return the page that explains a type of problem, as Markdown."""
    problem = problem_types().get(call.path["name"])
    if problem is None:
        raise NotFoundError("There is no such type of problem.")
    return Answer(value=page(problem).encode())


ROUTES = (
    Route(
        name="get_health",
        method="GET",
        path="/v1/health",
        summary="Whether this process serves",
        handler=health,
        roles=ANYBODY,
        criticality=Criticality.CHECKOUT,
        work=Work.STOREFRONT,
        deadline_seconds=1.0,
        answer=Health,
    ),
    Route(
        name="get_problem_page",
        method="GET",
        path=f"{PROBLEMS_PATH}/{{name}}",
        summary="What a type of problem means",
        handler=problem_page,
        roles=ANYBODY,
        criticality=Criticality.PAGE,
        work=Work.STOREFRONT,
        deadline_seconds=1.0,
        answer=bytes,
        media_type=MARKDOWN,
        max_age_seconds=300,
        parameters={"name": "The name of the type"},
    ),
)
