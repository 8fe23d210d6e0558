"""Requests that schemathesis makes from the OpenAPI document: every answer is one that the document names.

A few cases per route here; `python -m bench.serving` makes 20,000.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings

from api.declaring import Role
from api.openapi import document
from api.routes import ROUTES
from tests.integration.api.conftest import Asked
from tests.integration.shop import MERCHANT

CASES = int(os.environ.get("TIEOUT_GENERATED_CASES", "180"))
"""Of all routes together."""
SLOW = r"^/v1/operator/(status|freshness)$"
"""They ask every store each time."""

schemathesis.checks.load_all_checks()
CHECKS: Any = schemathesis.checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
        "allow_header_conformance",
        "missing_required_header",
        "ignored_auth",
    ]
)


schema = schemathesis.openapi.from_dict(document(ROUTES)).exclude(path_regex=SLOW)


@schema.parametrize()
@settings(
    max_examples=max(1, round(CASES / len(ROUTES))),
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_names(case: schemathesis.Case[Any], asked: Asked, address: str) -> None:
    roles = case.operation.definition.raw["x-tieout-roles"]
    role = Role(roles[0]) if roles else Role.STOREFRONT
    key = asked.keys[role, None if role is Role.OPERATOR else MERCHANT]
    answer = case.call_and_validate(base_url=address, headers={"Authorization": f"Bearer {key}"}, checks=CHECKS)
    assert answer.status_code < 500
