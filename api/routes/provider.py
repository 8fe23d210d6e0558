"""The route by which the payment provider tells what happened to payments there.

Belongs here: finding the pod, storing, and one first try. Does not belong here: the signature
(`api/provider_signatures.py`), what a notification changes (`oltp/commands/apply_notification.py`).

The answer is 200 as soon as the notification is stored: it is never asked for again. What could not be applied at once
waits for the worker.
"""

from __future__ import annotations

import logging

import msgspec
import psycopg

from api.calls import Answer, Call
from api.declaring import ANYBODY, Criticality, Route, Work
from api.pods import connection_of
from contracts.errors import BodyTooLargeError, NotFoundError, TieoutError
from oltp.commands.execute import CommandPod
from oltp.domain.notifications import NOTIFICATION_BYTES_MAX, Notification, NotificationState
from oltp.notifying import apply_notification, store_notification

logger = logging.getLogger("tieout.api")


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """That a notification is stored."""

    id: str
    state: NotificationState
    """How far we are with it; the provider has nothing more to do whatever it is."""


def receive_notification(call: Call) -> Answer:
    """Take a notification of the payment provider. The same one again changes nothing; the order does not matter.

    Signed, without an API key: `Provider-Signature: t=<Unix time>,v1=<hex>`, HMAC-SHA256 with the provider's secret
    over the time, a dot and the body. At most five minutes old.
    """
    if len(call.raw) > NOTIFICATION_BYTES_MAX:
        raise BodyTooLargeError(f"A notification has at most {NOTIFICATION_BYTES_MAX:,} bytes.")
    notification: Notification = call.body
    pod = _pod(call, notification.merchant_id)
    provider = pod.gateway.name
    if call.path["provider"] != provider:
        raise NotFoundError("This system has no payment provider of this name.")
    with connection_of(pod) as connection:
        store_notification(connection, provider, notification, call.raw.decode())
    return Answer(value=Received(id=notification.id, state=_first_try(pod, notification)))


def _pod(call: Call, merchant_id: str) -> CommandPod:
    """Return the merchant's pod. A merchant that the directory does not know: the first pod, where the notification
    waits for a person.
    """
    try:
        return call.services.pods.home(merchant_id)
    except NotFoundError:
        return call.services.pods.pod(call.services.settings.pods[0].pod)


def _first_try(pod: CommandPod, notification: Notification) -> NotificationState:
    try:
        return apply_notification(pod, pod.gateway.name, notification.id, notification.merchant_id).state
    except (TieoutError, psycopg.Error) as error:
        logger.info("Notification %s waits: %s", notification.id, error)
        return NotificationState.PENDING


ROUTES: tuple[Route, ...] = (
    Route(
        name="receive_provider_notification",
        method="POST",
        path="/v1/provider/webhooks/{provider}",
        summary="Take a notification of the payment provider",
        handler=receive_notification,
        roles=ANYBODY,
        criticality=Criticality.CHECKOUT,
        work=Work.PROVIDER,
        deadline_seconds=10.0,
        answer=Received,
        body=Notification,
        is_signed=True,
        parameters={"provider": "The name of the payment provider"},
    ),
)
