"""Several servers of the interface on one port: each answers, and one may end without the others."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from api.app import build_app
from contracts.settings import Settings
from contracts.waiting import wait_until
from stack.ports import LOOPBACK, free_port
from stack.processes.api_address import is_ready
from stack.processes.workers import api_programs
from stack.upkeep import serving


def test_each_process_is_a_worker_of_the_same_port(api_settings: Settings) -> None:
    first, *others = api_programs(replace(api_settings, api_processes=3), port=8181)
    assert [first.name, *(program.name for program in others)] == ["api", "api-2", "api-3"]
    assert all(program.command == first.command for program in others)
    assert first.command[-3:] == ["api", "--port", "8181"]
    assert [program.name for program in api_programs(api_settings, port=8181)] == ["api"]


def test_servers_share_a_port(api_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, port = replace(api_settings, api_processes=2), free_port()
    answered: dict[str, int] = {}

    def counting(services: object) -> object:
        app, name = build_app(services), threading.current_thread().name  # type: ignore[arg-type]

        async def counted(scope: dict[str, object], receive: object, send: object) -> None:
            if scope["type"] == "http":
                answered[name] = answered.get(name, 0) + 1
            await app(scope, receive, send)  # type: ignore[arg-type]

        return counted

    monkeypatch.setattr(serving, "build_app", counting)
    first, stop_first = _serve("first", settings, port)
    second, stop_second = _serve("second", settings, port)
    # Each connection goes to either; that none of hundreds goes to one of them does not happen.
    _until(lambda: _ask(port) and len(answered) == 2, "One of two servers got no connection.")
    stop_first()
    first.join(30)
    assert not first.is_alive()
    before = answered["second"]
    assert all(_ask(port) for _ in range(10)) and answered["second"] == before + 10
    stop_second()
    second.join(30)
    assert not second.is_alive() and not is_ready(f"http://{LOOPBACK}:{port}")


def _serve(name: str, settings: Settings, port: int) -> tuple[threading.Thread, Callable[[], None]]:
    stop = threading.Event()
    thread = threading.Thread(target=serving.run_api, args=(settings, stop), kwargs={"port": port}, name=name)
    thread.start()
    _until(lambda: _ask(port), "The interface does not answer.")
    return thread, stop.set


def _ask(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/v1/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _until(condition: Callable[[], bool], failure: str) -> None:
    wait_until(condition, timeout_seconds=30, failure=lambda: failure)
