"""Fixtures of more than one folder of integration tests: a log, a shop in a pod, a whole system, its command line.

Belongs here: what tests of several folders begin with. Does not belong here: servers and databases
(`tests/conftest.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from contracts.settings import PodSettings, Settings
from oltp.commands.execute import CommandPod, build_command_pod
from oltp.gateway import EmbeddedGateway, PaymentGateway
from oltp.store.migrate import migrate
from stack.composition import session
from stack.composition.draining import drain_everything
from streams.valkey_log import ValkeyLog
from tests.conftest import MakeDatabase, MakePod
from tests.integration import oltp_pod, reconcile_world
from tests.integration import shop as shops
from tests.integration.finance_office import Office, open_office
from tests.receivers import Webhook, webhook

Run = Callable[..., Any]


@pytest.fixture
def log(valkey_url: str) -> Iterator[ValkeyLog]:
    opened = ValkeyLog(valkey_url)
    yield opened
    opened.close()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as received:
        yield received


@pytest.fixture
def gateway() -> PaymentGateway:
    """The payment provider of `shop`."""
    return EmbeddedGateway()


@pytest.fixture
def shop(make_pod: MakePod, gateway: PaymentGateway) -> Iterator[shops.Shop]:
    """A shop in a pod of its own, whose books and stock add up in the end."""
    settings = make_pod()
    with build_command_pod(settings, clock=lambda: shops.NOW, gateway=gateway) as pod:
        shop = shops.open_shop(pod, settings)
        yield shop
        shop.assert_identities()


@pytest.fixture
def settings_of_pod(make_pod: MakePod) -> PodSettings:
    return make_pod()


@pytest.fixture
def pod(settings_of_pod: PodSettings) -> Iterator[CommandPod]:
    with build_command_pod(settings_of_pod, clock=lambda: oltp_pod.NOW) as pod:
        yield pod


@pytest.fixture
def migrated(make_database: MakeDatabase) -> str:
    """A database with the tables of a pod."""
    dsn = make_database()
    migrate(dsn)
    return dsn


@pytest.fixture
def system(settings: Settings) -> Settings:
    """Two pods with something in every table, and every copy up to date."""
    reconcile_world.fill(settings)
    drain_everything(settings)
    return settings


@pytest.fixture
def office(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    yield from open_office(settings, monkeypatch)


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command and return its JSON answer, or its text.

    `on`: other settings than `settings`; `code`: the exit code that it must end with.
    """

    def run_command(*arguments: str, as_json: bool = True, on: Settings = settings, code: int | None = None) -> Any:
        @contextmanager
        def opened(_progress: object) -> Iterator[Settings]:
            yield on

        monkeypatch.setattr(session, "open_session", opened)
        outcome = CliRunner().invoke(app, [*arguments, *(["--json"] if as_json else [])])
        if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        assert code is None or outcome.exit_code == code, outcome.output
        return json.loads(outcome.stdout) if as_json else outcome.stdout

    return run_command
