"""What holds for every request: keys and roles, problems, limits, and the OpenAPI document."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from api.bodies import BODY_BYTES_MAX
from api.declaring import Role
from cli.app import app
from cli.commands import hot_stock
from contracts.errors import NotFoundError
from contracts.limits import STOCK_SLOTS
from contracts.problems import problem_types
from stack.composition.hot_stock import find_hot_stock
from tests.integration.api.conftest import RIVAL, Asked
from tests.integration.shop import LOCATION, MERCHANT


def _is_problem(answer: Any, status: int, name: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"/problems/{name}"
    assert problem["request_id"] == answer.headers["tieout-request-id"]
    assert problem["status"] == status
    return problem


def test_a_product_is_read_as_it_is_now(asked: Asked) -> None:
    page = asked.ask("GET", "/v1/products").json()
    (mug,) = [item for item in page["items"] if item["title"] == "Mug"]
    (variant,) = asked.ask("GET", f"/v1/products/{mug['product_id']}").json()["variants"]
    assert variant["sku"] == "MUG" and variant["unit_price_micro"] == 4_990_000
    assert variant["available_quantity"] == sum(asked.shop.stock("MUG")) - 2 * asked.shop.stock("MUG")[1]


def test_pages_follow_each_other_and_end(asked: Asked) -> None:
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = asked.ask("GET", "/v1/products", params={"limit": 2, **after}).json()
        seen += [item["product_id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == sorted(set(seen)) and len(seen) == 5
    _is_problem(asked.ask("GET", "/v1/products", params={"limit": 0}), 400, "input")
    _is_problem(asked.ask("GET", "/v1/products", params={"after": "made up"}), 400, "input")
    other = asked.ask("GET", "/v1/products", merchant_id=RIVAL, params=after)
    _is_problem(other, 400, "input")


def test_who_has_no_valid_key_gets_nothing(asked: Asked) -> None:
    for header in ({}, {"Authorization": "Bearer made-up"}, {"Authorization": "Basic dXNlcg=="}):
        answer = asked.ask("GET", "/v1/products", role=None, headers=header)
        _is_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
    _is_problem(asked.ask("GET", "/v1/products", role=Role.OPERATOR), 403, "forbidden")


def test_paths_and_methods_that_no_route_has(asked: Asked) -> None:
    _is_problem(asked.ask("GET", "/v1/nothing"), 404, "unknown-path")
    answer = asked.ask("DELETE", "/v1/products")
    _is_problem(answer, 405, "wrong-method")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/v1/products", "/v1/nothing", "/problems/input", "/v1/openapi.json"])
def test_head_tells_what_get_would_tell_without_the_body(asked: Asked, path: str) -> None:
    got, head = (asked.ask(method, path) for method in ("GET", "HEAD"))
    assert head.status_code == got.status_code and head.content == b"" != got.content
    own = {"tieout-request-id", "tieout-position"}
    assert {name: value for name, value in head.headers.items() if name not in own} == {
        name: value for name, value in got.headers.items() if name not in own
    }


def test_every_type_of_problem_has_its_page(asked: Asked) -> None:
    for name in problem_types():
        answer = asked.ask("GET", f"/problems/{name}", role=None)
        assert answer.status_code == 200 and answer.text.startswith(f"# {name}\n")
    _is_problem(asked.ask("GET", "/problems/nothing", role=None), 404, "not-found")


def test_the_document_is_openapi_3_1(asked: Asked) -> None:
    document = asked.ask("GET", "/v1/openapi.json", role=None).json()
    assert document["openapi"].startswith("3.1")
    assert "/v1/products/{product_id}" in document["paths"]


@pytest.mark.parametrize("size", [BODY_BYTES_MAX + 1])
def test_a_body_that_is_too_large_is_refused(asked: Asked, size: int) -> None:
    problem = _is_problem(asked.ask("GET", "/v1/products", content=b"x" * size), 413, "body-too-large")
    assert problem["status"] == 413


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        (Role.OPERATOR, "/v1/operator/breaks?pod=%00", 400),
        (Role.OPERATOR, "/v1/operator/breaks?merchant_id=%00", 400),
        (Role.OPERATOR, "/v1/operator/disputes?merchant_id=%00", 400),
        (Role.OPERATOR, "/v1/operator/periods/%00/certificate", 404),
        (Role.OPERATOR, "/v1/operator/periods/2011-04/reports/%00.csv", 404),
        (Role.STOREFRONT, "/v1/customers/%00/account", 404),
    ],
)
def test_a_question_that_no_store_can_hold_is_the_callers_mistake(
    asked: Asked, role: Role, path: str, status: int
) -> None:
    assert asked.ask("GET", path, role).status_code == status


@pytest.mark.parametrize("name", ["rotations", "revocations"])
def test_a_key_that_no_store_can_hold_is_not_there(asked: Asked, name: str) -> None:
    answer = asked.ask("POST", f"/v1/keys/%00/{name}", Role.ADMIN, json={})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("customer_id", ["", "x" * 256, "a\x00b", "a\nb"])
def test_nobody_signs_in_who_could_not_order(asked: Asked, customer_id: str) -> None:
    headers = {"Tieout-Session": asked.ask("POST", "/v1/sessions").json()["token"]}
    body = {"customer_id": customer_id}
    _is_problem(asked.ask("POST", "/v1/sessions/current/sign-ins", headers=headers, json=body), 400, "input")
    assert asked.ask("GET", "/v1/sessions/current", headers=headers).json()["customer_id"] is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("merges", {"from_cart_id": "no id"}),
        ("merges", {"from_cart_id": "\x00"}),
        ("additions", {"device_id": "", "sku": "MUG", "quantity": 1}),
        ("quantities", {"device_id": "", "sku": "MUG", "quantity": 1}),
    ],
)
def test_a_cart_takes_only_what_the_document_allows(asked: Asked, path: str, body: dict[str, Any]) -> None:
    cart = f"/v1/carts/{asked.ask('POST', '/v1/sessions').json()['cart_id']}"
    _is_problem(asked.ask("POST", f"{cart}/{path}", json=body), 400, "input")
    assert asked.ask("GET", cart).json()["lines"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [("skips", {"event_id": "\x00", "reason": "x"}), ("replays", {"pod": "\x00", "from_cut": 1})],
)
def test_no_message_has_an_id_that_no_store_can_hold(asked: Asked, path: str, body: dict[str, Any]) -> None:
    made = {"url": "https://shop.example/hook", "event_types": ["order.placed"]}
    endpoint = asked.ask("POST", "/v1/webhook-endpoints", Role.ADMIN, json=made).json()["endpoint"]
    answer = asked.ask("POST", f"/v1/webhook-endpoints/{endpoint['endpoint_id']}/{path}", Role.ADMIN, json=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/input")


@pytest.mark.parametrize("customer_id", ["web/42", "a/entitlements", "a/account/b", "50%/é?#"])
def test_a_customer_has_whatever_id_its_merchant_gave(asked: Asked, customer_id: str) -> None:
    path = f"/v1/customers/{quote(customer_id, safe='')}"
    body = {"feature": "club", "level": 2, "grantor": "admin"}
    granted = asked.ask("POST", f"{path}/entitlements/grants", Role.ADMIN, json=body)
    assert (granted.status_code, granted.json().get("customer_id")) == (201, customer_id), granted.text
    held = asked.ask("GET", f"{path}/entitlements").json()["entitlements"]
    assert [one["customer_id"] for one in held] == [customer_id]
    position = {"Tieout-Position": granted.headers["tieout-position"]}
    account = asked.ask("GET", f"{path}/account", headers=position).json()
    assert (account["customer_id"], account["levels"]) == (customer_id, {"club": 2})


def test_an_operator_sees_how_everything_stands(asked: Asked) -> None:
    status = asked.ask("GET", "/v1/operator/status", Role.OPERATOR).json()
    assert [pod["pod"] for pod in status["pods"]] == ["pod1"] and status["pods"][0]["state"] == "reachable"
    assert "password" not in str(status["pods"])
    copies = asked.ask("GET", "/v1/operator/freshness", Role.OPERATOR).json()["copies"]
    assert {copy["copy"] for copy in copies} >= {"lake", "account_view"}
    assert asked.ask("GET", "/v1/operator/breaks", Role.OPERATOR).json() == {"items": []}
    promises = asked.ask("GET", "/v1/operator/promises", Role.OPERATOR).json()["items"]
    assert all(promise["when_down"] for promise in promises)
    _is_problem(asked.ask("GET", "/v1/operator/breaks/1", Role.OPERATOR), 404, "not-found")
    _is_problem(asked.ask("GET", "/v1/operator/periods/2011-04/certificate", Role.OPERATOR), 404, "not-found")
    _is_problem(asked.ask("GET", "/v1/operator/periods/2011-04/reports/trading.csv", Role.OPERATOR), 404, "not-found")
    _is_problem(asked.ask("GET", "/v1/operator/periods/nonsense/reports/trading.csv", Role.OPERATOR), 400, "input")


def test_a_variant_is_marked_hot_and_its_level_stays(asked: Asked) -> None:
    variant_id = asked.shop.variants["PIN"]
    before = asked.shop.stock("PIN")
    body = {"variant_id": variant_id, "location_id": LOCATION, "reason": "a sale"}

    def spread(**more: Any) -> tuple[int, int]:
        answer = asked.ask("POST", "/v1/stock/slots", role=Role.ADMIN, json={**body, **more})
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        assert (shown["on_hand"], shown["reserved"]) == before == asked.shop.stock("PIN")
        (level,) = asked.ask("GET", f"/v1/variants/{variant_id}/stock", role=Role.ADMIN).json()["levels"]
        assert (level["on_hand"], level["reserved"]) == before
        return shown["slots_before"], level["slots"]

    assert spread(is_preview=True) == (1, 1)
    assert spread() == (1, STOCK_SLOTS)
    assert spread() == (STOCK_SLOTS, STOCK_SLOTS)
    assert spread(is_spread=False) == (STOCK_SLOTS, 1)


def test_an_operator_marks_a_variant_hot_by_its_sku(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_stock, "open_servers", lambda: nullcontext((asked.settings, None)))

    def run(*options: str) -> str:
        arguments = ["hot-stock", "PEN", "--merchant", MERCHANT, "--location", LOCATION, *options]
        outcome = CliRunner().invoke(app, arguments)
        assert outcome.exit_code == 0, outcome.output
        return outcome.stdout

    assert "Nothing was done" in run("--dry-run")
    assert json.loads(run("--json", "--reason", "a sale"))["slots"] == STOCK_SLOTS
    assert "16 counters already" in run()
    assert "1 counter now" in run("--fold")
    kept = "select reason from oltp.stock_slot_changes where variant_id = %s order by changed_at"
    reasons = asked.shop.query(kept, asked.shop.variants["PEN"])
    assert len(reasons) == 2 and str(reasons[0][0]).endswith(": a sale")
    with pytest.raises(NotFoundError, match="has no SKU"):
        find_hot_stock(asked.settings, MERCHANT, "NOTHING", LOCATION)
