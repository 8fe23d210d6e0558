"""One interface over one real pod for a module of tests: two merchants, and a key of every role.

Belongs here: the system that these tests ask. Does not belong here: what they expect.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from api.app import build_app
from api.declaring import Role
from api.keys.store import migrate_keys
from api.services import Services, build_services
from contracts.events.merchant import TaxRate
from contracts.settings import Settings
from contracts.waiting import wait_until
from derived.read_models.migrate import migrate as migrate_read_models
from derived.search import readers
from derived.search.folders import base_folder
from derived.search.store import SearchStore
from derived.webhooks.schema import migrate_webhooks
from drills.records import migrate as migrate_drills
from finance.books import migrate as migrate_books
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.commands.register_merchant import RegisterMerchant
from oltp.directory import migrate_directory
from reconcile.results import migrate as migrate_results
from repair.audit import migrate as migrate_audit
from repair.ledger import migrate as migrate_ledger
from stack.ports import free_port
from stack.processes.api_address import is_ready
from stack.servers import bootstrap
from stack.servers.valkey import EmbeddedValkey
from stack.upkeep.operations import build_operations
from stack.upkeep.serving import serve
from tests.conftest import Cluster
from tests.integration import shop as shops

RIVAL = "rival"
PEPPER = "a pepper for tests"


@dataclass(kw_only=True)
class Asked:
    """The interface, and keys to ask it with."""

    client: httpx.AsyncClient
    runner: asyncio.Runner
    services: Services
    settings: Settings
    shop: shops.Shop
    keys: dict[tuple[Role, str | None], str]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def ask(
        self,
        method: str,
        path: str,
        role: Role | None = Role.STOREFRONT,
        merchant_id: str = shops.MERCHANT,
        key: str | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Ask with the key of a role; a command gets a new idempotency key unless `key` is given."""
        headers = dict(options.pop("headers", {}))
        if role is not None:
            text = self.keys[role, None if role is Role.OPERATOR else merchant_id]
            headers.setdefault("Authorization", f"Bearer {text}")
        if method != "GET":
            headers.setdefault("Idempotency-Key", key or f"test-{next(self.numbers)}")
        return self.runner.run(self.client.request(method, path, headers=headers, **options))


@pytest.fixture(scope="module", autouse=True)
def readers_look_at_each_question() -> Iterator[None]:
    """Readers of the index stay at a commit for 100 ms; a test that has just written asks sooner than that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "RELOAD_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def api_settings(
    postgres: Cluster, pod_template: str, valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    folder: Path = tmp_path_factory.mktemp("api")
    roles = bootstrap.POD_ROLES
    pod = postgres.create("api_pod", owner=roles[0], template=pod_template, connecting=(*roles, bootstrap.WITNESS_ROLE))
    control = postgres.create("api_control", owner="tieout_control")
    models = postgres.create("api_models", owner="tieout_read_models")
    settings = Settings(
        var_dir=folder / "var",
        pods=(postgres.pod_settings("pod1", pod),),
        control_dsn=postgres.dsn("tieout_control", control),
        catalog_dsn=postgres.dsn("tieout_lake", "no_catalog"),
        read_models_dsn=postgres.dsn("tieout_read_models", models),
        dagster_dsn="",
        log_url=valkey_server.url(),
        carts_url=valkey_server.url(1),
        api_requests_per_second=100_000,
        lake_data_path=str(folder / "lake"),
        lake_backup_path=folder / "backup",
    )
    # Another module's pod of this name may have left its cuts in the log.
    with redis.Redis.from_url(valkey_server.url()) as client:
        client.flushall()
    migrate_directory(settings.control_dsn)
    for migrate in (
        migrate_keys,
        migrate_webhooks,
        migrate_results,
        migrate_ledger,
        migrate_audit,
        migrate_books,
        migrate_drills,
    ):
        migrate(settings.control_dsn)
    migrate_read_models(settings.read_models_dsn)
    with SearchStore(base_folder(settings)).transaction() as session:
        session.lock_positions("pod1", [0])
    yield settings
    for database in (pod, control, models):
        postgres.drop(database)


@pytest.fixture(scope="module")
def asked(api_settings: Settings) -> Iterator[Asked]:
    """The interface with its shops and keys."""
    services = build_services(api_settings, PEPPER, operations=build_operations(api_settings))
    (settings,) = api_settings.pods
    with build_command_pod(settings, control_dsn=api_settings.control_dsn) as pod:
        mine = shops.open_shop(pod, settings)
        _open_rival(pod)
        keys: dict[tuple[Role, str | None], str] = {
            (role, merchant_id): services.keys.create(role, merchant_id, "test").text or ""
            for merchant_id in (shops.MERCHANT, RIVAL)
            for role in (Role.STOREFRONT, Role.ADMIN)
        }
        keys[Role.OPERATOR, None] = services.keys.create(Role.OPERATOR, None, "test").text or ""
        # Errors must come as answers, as over a socket, and not as exceptions of the test.
        transport = httpx.ASGITransport(build_app(services), raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://tieout")
        with asyncio.Runner() as runner:
            yield Asked(client=client, runner=runner, services=services, settings=api_settings, shop=mine, keys=keys)
            runner.run(client.aclose())
        services.close()
        mine.assert_identities()


@pytest.fixture(scope="module")
def address(asked: Asked) -> Iterator[str]:
    """The address of the interface on a socket."""
    port, stop = free_port(), threading.Event()
    server = threading.Thread(target=serve, args=(build_app(asked.services), stop), kwargs={"port": port})
    server.start()
    address = f"http://127.0.0.1:{port}"
    wait_until(lambda: is_ready(address), timeout_seconds=30, failure=lambda: "The interface does not answer.")
    yield address
    stop.set()
    server.join(timeout=30)


def _open_rival(pod: CommandPod) -> None:
    """Register a second merchant, who owns nothing of what the tests do with the first one's keys."""
    command = RegisterMerchant(
        merchant_id=RIVAL,
        name="Rival",
        currency="GBP",
        is_tax_inclusive=True,
        jurisdiction="GB",
        shipping_fee_minor=0,
        tax_rates=[
            TaxRate(jurisdiction="GB", tax_category=name, rate_ppm=200_000) for name in ("standard", "shipping")
        ],
    )
    execute(pod, command, idempotency_key="register-rival")
