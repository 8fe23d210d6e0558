"""What is the same for all routes: problems, bodies, limits of keys, threads with deadlines, deprecated routes."""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import msgspec
import pytest

from api.app import build_app
from api.bodies import DEPTH_MAX, parsed, require_json, require_shallow
from api.commands import body_of
from api.declaring import Criticality, Role, Route, Work
from api.dispatch import _fixed_headers, _idempotency_key, _version_in
from api.executors import WAITING_PER_THREAD, Executors
from api.limits import KeyCounters, KeyLimits
from api.openapi import document
from api.problems import problem_answer
from api.routes import ROUTES
from contracts import errors
from contracts.errors import TieoutError
from contracts.problems import TOLD, page, problem_type, problem_types
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.place_order import PlaceOrder

OURS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, TieoutError)]


def test_every_error_of_ours_has_a_type_of_its_own() -> None:
    names = {problem_type(error).name for error in OURS}
    assert len(names) == len(OURS) and names == set(problem_types())
    assert set(TOLD) <= set(OURS)


@pytest.mark.parametrize("error", OURS, ids=lambda error: error.__name__)
def test_an_error_is_told_by_its_type(error: type[TieoutError]) -> None:
    made = error.__new__(error)
    Exception.__init__(made, "What was wrong.")
    if isinstance(made, errors.IdempotencyConflictError):
        made.fields = ("lines",)
    if isinstance(made, errors.CartChangedError):
        made.changes, made.total_minor = (), None
    answer = problem_answer(made, "request-1")
    body = msgspec.json.decode(answer.body)
    assert answer.status_code == body["status"] == problem_type(error).status
    assert answer.media_type == "application/problem+json"
    assert body["type"] == f"/problems/{problem_type(error).name}" and body["request_id"] == "request-1"
    assert page(problem_type(error)).startswith(f"# {problem_type(error).name}\n")


def test_sentences_about_servers_stay_inside() -> None:
    answer = problem_answer(errors.StackError("role tieout_app at 10.0.0.3 does not answer"), "1")
    assert b"10.0.0.3" not in answer.body


def test_names_of_types_never_change() -> None:
    """A client may decide by them: rename a class, and this says so."""
    stable = {"insufficient-stock": 409, "idempotency-conflict": 422, "not-found": 404, "gateway-declined": 402}
    stable |= {"precondition": 412, "too-many-requests": 429, "unauthenticated": 401, "forbidden": 403}
    assert {name: problem_types()[name].status for name in stable} == stable


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"order_id": 1}', b'{"unknown": 1}', b"\xff", b"[]"])
def test_a_body_that_does_not_fit_is_unparsable(body: bytes) -> None:
    with pytest.raises(errors.UnparsableBodyError):
        parsed(body, body_of(CancelOrder, ("order_id",)))


def test_nesting_is_counted_outside_of_texts() -> None:
    require_shallow(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    require_shallow(b'["' + b"[" * 100 + b'\\"' + b"{" * 100 + b'"]')
    with pytest.raises(errors.BodyTooLargeError):
        require_shallow(b"[" * (DEPTH_MAX + 1))


def test_json_is_declared() -> None:
    require_json("application/json; charset=utf-8")
    for other in ("", "text/plain", "application/x-www-form-urlencoded"):
        with pytest.raises(errors.WrongContentTypeError):
            require_json(other)


def test_a_body_has_all_fields_but_the_merchant_and_what_the_path_says() -> None:
    fields = set(body_of(CancelOrder, ("order_id",)).__struct_fields__)
    assert fields == {"lines", "reason"}
    assert set(body_of(PlaceOrder, ()).__struct_fields__) == set(PlaceOrder.__struct_fields__) - {"merchant_id"}


def test_keys_and_versions_in_headers() -> None:
    assert _idempotency_key('"abc"') == _idempotency_key(" abc ") == "abc"
    assert _version_in(None) is None and _version_in("*") is None and _version_in('W/"7"') == 7
    for wrong in ("7", '"x"', '"1", "2"'):
        with pytest.raises(errors.InputError):
            _version_in(wrong)
    with pytest.raises(errors.KeyMissingError):
        _idempotency_key('""')


def test_a_key_has_its_rate_and_its_number_at_once() -> None:
    now = 0.0
    counters = KeyCounters(KeyLimits(per_second=1, burst=3, in_flight=2), lambda: now)
    with counters.counted("a"), counters.counted("a"):
        with pytest.raises(errors.TooManyRequestsError, match="under way"), counters.counted("a"):
            pass
        with counters.counted("b"):
            pass
    with counters.counted("a"):
        pass
    with pytest.raises(errors.TooManyRequestsError, match="a second"), counters.counted("a"):
        pass
    now = 1.0
    with counters.counted("a"):
        pass


def test_a_full_class_refuses_and_another_goes_on() -> None:
    async def go() -> None:
        executors, gate = Executors({Work.CHECKOUT: 1, Work.ADMIN: 1}), threading.Event()
        held = [
            asyncio.ensure_future(executors.run(Work.CHECKOUT, lambda: gate.wait(10), 10))
            for _ in range(1 + WAITING_PER_THREAD)
        ]
        await asyncio.sleep(0)
        with pytest.raises(errors.OverloadedError):
            await executors.run(Work.CHECKOUT, lambda: None, 1)
        assert await executors.run(Work.ADMIN, lambda: "done", 5) == "done"
        gate.set()
        assert all(await asyncio.gather(*held))
        executors.close()

    asyncio.run(go())


def test_a_place_without_a_thread_counts_as_one_with() -> None:
    executors = Executors({Work.CHECKOUT: 1, Work.ADMIN: 1})
    with ExitStack() as held:
        for _ in range(1 + WAITING_PER_THREAD):
            held.enter_context(executors.place(Work.CHECKOUT, Criticality.CHECKOUT))
        with pytest.raises(errors.OverloadedError), executors.place(Work.CHECKOUT, Criticality.CHECKOUT):
            pass
        with executors.place(Work.ADMIN, Criticality.CHECKOUT):
            assert executors.submit(Work.CHECKOUT, lambda: "done").result(10) == "done"
    with executors.place(Work.CHECKOUT, Criticality.CHECKOUT):
        pass
    executors.close()


def test_what_is_least_critical_is_refused_first() -> None:
    async def go() -> list[Criticality]:
        executors, gate = Executors({Work.CHECKOUT: 2, Work.ADMIN: 2}), threading.Event()
        served: list[Criticality] = []
        places = 2 * 2 * (1 + WAITING_PER_THREAD)
        taken = round(places * 0.75)
        held = [
            asyncio.ensure_future(executors.run(work, lambda: gate.wait(10), 10))
            for _ in range(taken // 2)
            for work in (Work.CHECKOUT, Work.ADMIN)
        ]
        await asyncio.sleep(0)
        for criticality in Criticality:
            with suppress(errors.OverloadedError):
                executors._enter(Work.ADMIN, criticality)
                served.append(criticality)
        gate.set()
        await asyncio.gather(*held)
        executors.close()
        return served

    assert asyncio.run(go()) == [Criticality.CART, Criticality.CHECKOUT]


def test_after_its_deadline_a_waiting_call_is_never_started() -> None:
    async def go() -> list[str]:
        executors, gate, done = Executors({Work.ADMIN: 1}), threading.Event(), []
        running = asyncio.ensure_future(executors.run(Work.ADMIN, lambda: gate.wait(10), 10))
        await asyncio.sleep(0)
        with pytest.raises(errors.DeadlineError):
            await executors.run(Work.ADMIN, lambda: done.append("late"), 0.01)
        gate.set()
        await running
        executors.close()
        return done

    assert asyncio.run(go()) == []


def _route(**changes: Any) -> Route:
    return replace(ROUTES[0], **changes)


def test_a_deprecated_route_says_so_in_answers_and_in_the_document() -> None:
    route = _route(deprecated_at=datetime(2026, 1, 1, tzinfo=UTC), sunset_at=datetime(2026, 7, 1, 12, tzinfo=UTC))
    headers = _fixed_headers(route)
    assert headers["Deprecation"] == "@1767225600" and headers["Sunset"] == "Wed, 01 Jul 2026 12:00:00 GMT"
    operation = document([route])["paths"][route.path]["get"]
    assert operation["deprecated"] and "Sunset" in operation["responses"]["200"]["headers"]
    assert "Deprecation" not in _fixed_headers(ROUTES[0])


def test_a_refusal_of_a_deprecated_route_says_so_too_and_nobody_keeps_it() -> None:
    route = _route(
        deprecated_at=datetime(2026, 1, 1, tzinfo=UTC),
        sunset_at=datetime(2026, 7, 1, 12, tzinfo=UTC),
        max_age_seconds=300,
        handler=_refuse,
    )
    transport = httpx.ASGITransport(build_app(cast(Any, None), [route]), raise_app_exceptions=False)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://tieout") as client:
            return await client.get(route.path)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
    assert (
        answer.headers["Deprecation"] == "@1767225600" and answer.headers["Sunset"] == "Wed, 01 Jul 2026 12:00:00 GMT"
    )
    assert answer.headers["Cache-Control"] == "no-store"


async def _refuse(_: Any) -> Any:
    raise errors.NotFoundError("There is nothing here.")


def test_every_route_declares_itself_once() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        assert isinstance(route.criticality, Criticality) and route.deadline_seconds > 0
        assert route.roles <= set(Role) and (route.method != "GET" or not route.is_command)
        assert route.sunset_at is None or (route.deprecated_at is not None and route.sunset_at >= route.deprecated_at)


def test_what_is_asked_of_a_devices_session_needs_its_token() -> None:
    paths = document(ROUTES)["paths"]
    for route in ROUTES:
        needed = {one["name"] for one in paths[route.path][route.method.lower()]["parameters"] if one["required"]}
        assert ("Tieout-Session" in needed) == route.path.startswith("/v1/sessions/current"), route.name


def test_every_reference_of_the_document_is_there() -> None:
    text = msgspec.json.encode(document(ROUTES)).decode()
    schemas = document(ROUTES)["components"]["schemas"]
    found = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert found <= set(schemas)


def test_no_schema_is_a_tuple() -> None:
    """Generators of clients refuse `prefixItems`; what has two parts is an object that names them."""
    assert "prefixItems" not in msgspec.json.encode(document(ROUTES)).decode()


def test_nothing_that_takes_money_or_stock_reads_a_cached_answer() -> None:
    functions = {route.name: getattr(route.handler, "func", route.handler) for route in ROUTES}
    reading = {name for name, function in functions.items() if "services.answers" in inspect.getsource(function)}
    assert reading == {"get_product", "get_merchant", "search_products"}
    for shown in (route for route in ROUTES if route.name in reading):
        assert shown.criticality in (Criticality.PAGE, Criticality.REPORT) and not shown.is_command
