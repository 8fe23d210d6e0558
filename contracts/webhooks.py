"""Webhooks that go out to merchants: which events are told, to which addresses, and how a message is signed.

Belongs here: what whoever registers an endpoint, whoever sends to it and whoever compares must agree on; pure. Does not
belong here: the endpoints (`api/webhooks/`), telling (`derived/webhooks/`), comparing (`reconcile/copies/webhooks.py`).

A message is signed as Standard Webhooks says: HMAC-SHA256 over `id.timestamp.body`. An endpoint's secret is stored
nowhere: it is computed from the system's pepper, the endpoint's id and the number of the secret, so whoever reads the
database can sign nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from contracts.events.fulfillment import FulfillmentEvent
from contracts.events.order import OrderEvent
from contracts.events.payment import PaymentEvent
from contracts.events.refund import RefundEvent

PURPOSE = "webhook secrets"
"""What the pepper is used for here."""
TOLD_AGGREGATES = ("order", "payment", "refund", "fulfillment")
"""The aggregates whose events merchants can be told; all of their events."""
URL_CHARACTERS_MAX = 2_000
MESSAGE_ID, MESSAGE_TIMESTAMP, MESSAGE_SIGNATURE = "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"

WAITING, ACKNOWLEDGED, WITHDRAWN, SKIPPED = "waiting", "acknowledged", "withdrawn", "skipped"
"""The states of a delivery. `withdrawn`: its event turned out to be none of the endpoint's; it is sent no more.
`skipped`: a person has decided that the endpoint is not told, since it can never take the message."""


def public_type(event_type: str) -> str:
    """Return the name of an event's type as merchants know it: `order_placed` is `order.placed`."""
    return event_type.replace("_", ".", 1)


EVENT_TYPES = tuple(
    sorted(public_type(event) for kind in (OrderEvent, PaymentEvent, RefundEvent, FulfillmentEvent) for event in kind)
)
"""What an endpoint can ask for."""


def secret_of(master: bytes, endpoint_id: str, number: int) -> bytes:
    """Return one secret of an endpoint; `number` counts its secrets from 1."""
    return hmac.digest(master, f"{endpoint_id}/{number}".encode(), hashlib.sha256)


def shown(secret: bytes) -> str:
    """Return a secret as its merchant gets it."""
    return "whsec_" + base64.b64encode(secret).decode()


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message, with the version of its form."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def url_problem(url: str, open_hosts: Collection[str]) -> str | None:
    """Return why messages are not sent to an address, as the end of a sentence; None: they are.

    `open_hosts` are the hosts that may be private and need no https. A name is looked up each time something is sent,
    and what it stands for is checked then.
    """
    if len(url) > URL_CHARACTERS_MAX:
        return f"has more than {URL_CHARACTERS_MAX:,} characters"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "has characters that no address has"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no address"
    if parts.scheme not in ("https", "http") or not host:
        return "must begin with https:// and name a host"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must have neither a user, a password nor a fragment"
    if host in open_hosts:
        return None
    if parts.scheme != "https":
        return "must begin with https://"
    address = _address(host)
    if (address is not None and not is_public(address)) or host == "localhost" or host.endswith(".localhost"):
        return "must not be of a private network"
    return None


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        # Forms such as 127.1 or 0x7f000001, which resolvers take for addresses, are found when the name is looked up.
        return None


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the open internet."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if found in _TRANSLATED:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    return found.is_global and not found.is_multicast


_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses behind a translator (RFC 6052)."""
