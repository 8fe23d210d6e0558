"""The pages of the HTTP interface: one per type of problem, the list of all routes, and the OpenAPI document.

Belongs here: how these are written. Does not belong here: routes (`api/routes/`) and types (`contracts/problems.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path

from api.openapi import document
from api.routes import ROUTES
from contracts.problems import page, problem_types

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]


def interface_documents(folder: Path, notice: str, table: Table) -> dict[Path, str]:
    """Return all of them, by path; `notice` says with `source` where a page comes from."""
    return {
        folder / "routes.md": routes_page(notice.format(source="`api/routes/`"), table),
        folder / "openapi.json": openapi_json(),
        **problem_pages(folder / "problems", notice.format(source="`contracts/problems.py`"), table),
    }


def problem_pages(folder: Path, notice: str, table: Table) -> dict[Path, str]:
    """Return the page of each type of problem, and the page that lists them."""
    types = problem_types()
    rows = [
        [
            f"[{problem.name}]({problem.name}.md)",
            f"{problem.status} {HTTPStatus(problem.status).phrase}",
            "yes" if problem.is_retryable else "no",
            problem.title,
        ]
        for problem in types.values()
    ]
    text = "Every error of the HTTP interface is problem+json (RFC 9457); its `type` is one of these and never changes."
    listed = f"# Problems\n\n{text}\n\n" + table(["type", "status", "a retry may succeed", "meaning"], rows)
    pages = {folder / f"{name}.md": notice + page(problem) for name, problem in types.items()}
    return {folder / "README.md": notice + listed, **pages}


def routes_page(notice: str, table: Table) -> str:
    """Return docs/routes.md: what each route declares."""
    rows = [
        [
            f"`{route.method} {route.path}`",
            route.summary,
            ", ".join(sorted(route.roles)) or "anybody",
            route.criticality.name.lower(),
            f"{route.deadline_seconds:g} s",
            "deprecated" if route.deprecated_at else "",
        ]
        for route in ROUTES
    ]
    text = (
        "What each route of the HTTP interface declares. When there is too much work, what is least critical is\n"
        "refused first: report, page, cart, checkout. For programs: [openapi.json](openapi.json), which the interface\n"
        "serves at `/v1/openapi.json`. How to use it: [the HTTP interface](how-to/http.md)."
    )
    return notice + f"# Routes\n\n{text}\n\n" + table(["route", "what", "for", "critical", "deadline", ""], rows)


def openapi_json() -> str:
    """Return docs/openapi.json."""
    return json.dumps(document(ROUTES), indent=2, ensure_ascii=False) + "\n"
