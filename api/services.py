"""What the routes work with: made once per process, handed to every call.

Belongs here: this value and its end. Does not belong here: making its parts from settings, except those of `api/`
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from api.answers import Answers, build_answers
from api.executors import Executors
from api.gathered import Gathered
from api.keys.looking import KeyLooks
from api.keys.ring import KeyRing
from api.keys.store import CONNECT_SECONDS_MAX, KeyStore, pooled_store
from api.limits import KeyCounters, KeyLimits
from api.models import ReadModels
from api.operations import Operations
from api.pods import Pods
from api.shoppers import Shoppers, build_shoppers
from api.signing import Signer, derived_secret
from api.webhooks.store import EndpointStore
from contracts.settings import Settings
from contracts.webhooks import PURPOSE as WEBHOOK_PURPOSE
from derived.search.asking import Search
from derived.search.folders import base_folder
from oltp.gateway import PaymentGateway

KEY_PURPOSE = "api keys"
"""What the pepper is used for in the digests of keys."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything that handlers use."""

    settings: Settings
    pods: Pods
    gathered: Gathered
    shoppers: Shoppers
    models: ReadModels
    search: Search
    answers: Answers
    executors: Executors
    keys: KeyStore
    looks: KeyLooks
    counters: KeyCounters
    cursors: Signer
    tokens: Signer
    operations: Operations
    webhooks: EndpointStore
    provider_secrets: tuple[str, ...] = ()
    """With which the payment provider signs its notifications; none: no notification is taken."""

    def close(self) -> None:
        """Let running work end, and close all connections."""
        self.executors.close()
        self.shoppers.close()
        self.answers.close()
        self.pods.close()
        self.models.close()
        if self.keys.connections is not None:
            self.keys.connections.close()
        self.webhooks.connections.close()


def build_services(
    settings: Settings,
    pepper: str,
    *,
    operations: Operations | None = None,
    gateway: PaymentGateway | None = None,
    provider_secrets: tuple[str, ...] = (),
) -> Services:
    """Return the services of one process; they connect at first use."""
    keys = pooled_store(settings.control_dsn, derived_secret(pepper, KEY_PURPOSE))
    pods, executors = Pods(settings, gateway=gateway), Executors()
    return Services(
        settings=settings,
        pods=pods,
        gathered=Gathered(pods, executors),
        shoppers=build_shoppers(settings, pods),
        answers=build_answers(settings, pods),
        models=ReadModels(settings.read_models_reader_dsn or settings.read_models_dsn),
        search=Search(base_folder(settings)),
        executors=executors,
        keys=keys,
        looks=KeyLooks(KeyRing(keys), executors),
        counters=KeyCounters(
            KeyLimits(
                per_second=settings.api_requests_per_second,
                burst=2 * settings.api_requests_per_second,
                in_flight=settings.api_requests_at_once,
            )
        ),
        cursors=Signer(derived_secret(pepper, "cursors"), "cursor"),
        tokens=Signer(derived_secret(pepper, "positions"), "position"),
        operations=operations or Operations(),
        provider_secrets=provider_secrets,
        webhooks=_endpoints(settings, pepper),
    )


def _endpoints(settings: Settings, pepper: str) -> EndpointStore:
    connections: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
        settings.control_dsn, min_size=0, max_size=2, timeout=CONNECT_SECONDS_MAX, open=True, name="webhook-endpoints"
    )
    return EndpointStore(
        connections=connections,
        master=derived_secret(pepper, WEBHOOK_PURPOSE),
        open_hosts=settings.webhook_open_hosts,
        endpoints_max=settings.webhook_endpoints_max,
    )
