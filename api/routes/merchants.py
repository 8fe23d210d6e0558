"""Routes of a merchant's own configuration, and of entitlements that it gives.

Belongs here: the merchant of the key. Does not belong here: its keys (`api/routes/keys.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from api.calls import Answer, Call
from api.commands import command_route
from api.copy_headers import copy_headers
from api.declaring import Criticality, Route, Work
from api.reading import wants_now
from api.roles import ADMINS, SELLERS
from contracts.errors import NotFoundError
from contracts.events.entitlement import CustomerEntitlementState, MerchantEntitlementState
from contracts.events.merchant import MerchantState
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.grant_entitlement import GrantCustomerEntitlement
from oltp.commands.revoke_entitlement import RevokeCustomerEntitlement
from oltp.reads.aggregates import states_by


class MerchantEntitlements(msgspec.Struct, frozen=True, kw_only=True):
    """What a merchant is entitled to, by id."""

    entitlements: list[MerchantEntitlementState]


class CustomerEntitlements(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer is entitled to at a merchant, by id."""

    entitlements: list[CustomerEntitlementState]


def get_merchant(call: Call) -> Answer:
    """Return the merchant of the key with its configuration.

    A storefront may get an answer that was put together some seconds ago: `Age` says how many, `Tieout-Source` where it
    is from. Staff, and whoever names a position, get what is true at this moment.
    """
    served = call.services.answers.merchant(call.merchant_id, is_fresh=wants_now(call))
    if served.body is None:
        raise NotFoundError(f"There is no merchant {call.merchant_id}.")
    version = msgspec.json.decode(served.body, type=MerchantState).version
    headers = copy_headers(served.source) | {"Age": str(int(served.age_seconds))}
    return Answer(value=served.body, headers=headers, version=version)


def get_entitlements(call: Call) -> Answer:
    """Return what the merchant is entitled to, read from OLTP."""
    with call.services.pods.reading(call.merchant_id) as connection:
        found = states_by(connection, MerchantEntitlementState, call.merchant_id, "merchant_id", call.merchant_id)
    return Answer(value=MerchantEntitlements(entitlements=found))


def get_customer_entitlements(call: Call) -> Answer:
    """Return what a customer is entitled to, read from OLTP; empty for somebody who never got anything."""
    customer_id = call.text("customer_id")
    with call.services.pods.reading(call.merchant_id) as connection:
        found = states_by(connection, CustomerEntitlementState, call.merchant_id, "customer_id", customer_id)
    return Answer(value=CustomerEntitlements(entitlements=found))


def _read(name: str, path: str, summary: str, handler: Any, answer: Any, **more: Any) -> Route:
    return Route(
        name=name,
        method="GET",
        path=path,
        summary=summary,
        handler=handler,
        criticality=Criticality.PAGE,
        work=Work.ADMIN,
        deadline_seconds=3.0,
        answer=answer,
        **more,
    )


ROUTES: tuple[Route, ...] = (
    _read(
        "get_merchant",
        "/v1/merchant",
        "The merchant's configuration",
        get_merchant,
        MerchantState,
        roles=SELLERS,
        has_version=True,
        takes_position=True,
    ),
    command_route("PATCH", "/v1/merchant", ConfigureMerchant, roles=ADMINS, has_version=True),
    _read(
        "get_entitlements",
        "/v1/merchant/entitlements",
        "What the merchant is entitled to",
        get_entitlements,
        MerchantEntitlements,
        roles=SELLERS,
    ),
    _read(
        "get_customer_entitlements",
        "/v1/customers/{customer_id}/entitlements",
        "What a customer is entitled to",
        get_customer_entitlements,
        CustomerEntitlements,
        roles=SELLERS,
        parameters={"customer_id": "The merchant's own id of the customer"},
    ),
    command_route(
        "POST", "/v1/customers/{customer_id}/entitlements/grants", GrantCustomerEntitlement, roles=ADMINS, status=201
    ),
    command_route(
        "POST", "/v1/customers/{customer_id}/entitlements/revocations", RevokeCustomerEntitlement, roles=ADMINS
    ),
)
