"""Sends messages: claims a message, gives it to every target that has not accepted it, and records the result.

Targets are addresses of Apprise (mail, chat, webhooks). They contain secrets, so we never log or store an address, only
its fingerprint. A target's answer may quote the address, so we store only its HTTP status. Belongs here: Apprise, and
the loop of a sender. Does not belong here: which messages exist (`deciding.py`), their claims (`queue.py`).
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from contracts.clock import Clock
from repair.alerts.deciding import INCIDENT_KINDS, Alert, AlertKind, Heartbeat
from repair.alerts.queue import beat, claim, release, sent_lately, settle
from repair.alerts.texts import together_text

if TYPE_CHECKING:
    from apprise import Apprise

TARGET_SECONDS_MAX = 12
"""A target that does not answer within this time counts as not having accepted the message."""
FINGERPRINT_CHARACTERS = 12
TOGETHER_FROM = 4
"""If at least this many incidents of a kind are due at once, they are sent as one text."""
TEXTS_PER_WINDOW = 12
FLOOD_WINDOW = timedelta(minutes=10)
"""After this many texts about incidents within FLOOD_WINDOW, further messages wait and are sent together. The window is
shorter than a quarter of an hour, because a longer wait counts as a broken alert path (`deciding.py`).
"""
CLAIMED_AT_ONCE = 500
HTTP_STATUS = re.compile(r"error=(\d{3})\b")
NO_CONNECTION = re.compile(r"connection error|timed? ?out", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """An address that gets messages. Its repr shows no secret."""

    number: int
    """Its position in the setting, from 1."""
    fingerprint: str
    scheme: str
    deliver: Callable[[str, str], str]
    """(Title, body) -> an empty text when the target accepted the message, else the reason."""

    def __repr__(self) -> str:
        return f"target {self.number} ({self.scheme})"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one run of the sender did."""

    delivered: tuple[int, ...] = ()
    """Messages that every target has accepted now."""
    failed: tuple[tuple[int, str], ...] = ()
    """Messages that a target did not accept, and the reason."""


def build_targets(urls: Sequence[str]) -> list[Target]:
    """Return the targets of these addresses; an address that Apprise does not know becomes one that always fails."""
    return [_target(number, url) for number, url in enumerate(urls, start=1)]


def _target(number: int, url: str) -> Target:
    fingerprint = hashlib.sha256(url.encode()).hexdigest()[:FINGERPRINT_CHARACTERS]
    scheme = url.partition("://")[0] or "?"
    return Target(
        number=number, fingerprint=fingerprint, scheme=scheme, deliver=lambda title, body: _deliver(url, title, body)
    )


def _deliver(url: str, title: str, body: str) -> str:
    _keep_quiet()
    from apprise import Apprise, AppriseAsset, NotifyFormat, PersistentStoreMode

    asset = AppriseAsset(app_id="Tieout", app_desc="Tieout", app_url="", storage_mode=PersistentStoreMode.MEMORY)
    sender: Apprise = Apprise(asset=asset)
    if not sender.add(url):
        return "is no address that Apprise understands"
    result = sender.notify(body, title=title, body_format=NotifyFormat.TEXT, timeout=TARGET_SECONDS_MAX)
    if result:
        return ""
    return _why(" ".join(entry.message for entry in result.logs()))


def _keep_quiet() -> None:
    """Keep Apprise's log messages out of our log, because they quote addresses; a call returns what we need of them."""
    logging.getLogger("urllib3").setLevel(logging.INFO)
    logger = logging.getLogger("apprise")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _why(log: str) -> str:
    status = HTTP_STATUS.search(log)
    if status:
        return f"answered with HTTP status {status[1]}"
    return "could not be reached" if NO_CONNECTION.search(log) else "did not take the message"


def delivered(target: Target, title: str, body: str) -> str:
    """Send a text to a target; return why it did not accept it, or an empty text. Never raises."""
    try:
        return target.deliver(title, body)
    except Exception as error:  # an error of one target must not stop the others
        return f"could not be tried ({type(error).__name__})"


def send_pending(
    control_dsn: str,
    targets: Mapping[AlertKind, Sequence[Target]],
    *,
    clock: Clock,
    messages_max: int = 500,
    seconds_max: float = 20.0,
    is_forced: bool = False,
) -> Sent:
    """Send the messages that are due, each at least once; a failure of a target is recorded and retried later.

    `targets` maps a kind of message to its targets; messages of a kind without targets wait. Many incidents at once are
    sent as one text. After TEXTS_PER_WINDOW texts in a window, further messages wait for the next window and are sent
    together. With `is_forced`, all waiting messages are sent, also those that were given up. No new text is sent after
    `seconds_max`.
    """
    until = time.monotonic() + seconds_max
    kinds = [kind for kind, of_kind in targets.items() if of_kind]
    if not is_forced and sent_lately(control_dsn, clock() - FLOOD_WINDOW) >= TEXTS_PER_WINDOW:
        kinds = [kind for kind in kinds if kind not in INCIDENT_KINDS]
    delivered: list[int] = []
    failed: list[tuple[int, str]] = []
    after, left = 0, messages_max
    while left > 0 and time.monotonic() < until:
        claimed = claim(control_dsn, kinds, clock(), limit=min(left, CLAIMED_AT_ONCE), after=after, is_forced=is_forced)
        if not claimed:
            break
        after, left = claimed[-1].alert_id, left - len(claimed)
        for parcel in parcels(claimed):
            if time.monotonic() >= until:
                release(control_dsn, [alert.alert_id for alert in parcel])
                continue
            error = _send(control_dsn, parcel, targets[parcel[0].kind], clock)
            numbers = [alert.alert_id for alert in parcel]
            delivered += [] if error else numbers
            failed += [(number, error) for number in numbers] if error else []
    return Sent(delivered=tuple(delivered), failed=tuple(failed))


def parcels(claimed: Sequence[Alert]) -> list[list[Alert]]:
    """Group messages into texts: many incidents of a kind become one text, every other message its own."""
    found = []
    for kind in dict.fromkeys(alert.kind for alert in claimed):
        of_kind = [alert for alert in claimed if alert.kind is kind]
        is_flood = kind in INCIDENT_KINDS and len(of_kind) >= TOGETHER_FROM
        found += [of_kind] if is_flood else [[alert] for alert in of_kind]
    return sorted(found, key=lambda parcel: parcel[0].alert_id)


def _send(control_dsn: str, parcel: Sequence[Alert], targets: Sequence[Target], clock: Clock) -> str:
    """Send claimed messages to the targets that do not have them; return the reasons of failures, if any."""
    took = {alert.alert_id: list(alert.delivered_to) for alert in parcel}
    errors, has_arrived = [], False
    for target in targets:
        missing = [alert for alert in parcel if target.fingerprint not in took[alert.alert_id]]
        if not missing:
            continue
        error = delivered(target, *text_of(missing))
        if error:
            errors.append(f"{target!r} {error}")
            continue
        has_arrived = True
        for alert in missing:
            took[alert.alert_id].append(target.fingerprint)
    now, error = clock(), "; ".join(errors)
    taken = [(alert, took[alert.alert_id]) for alert in parcel]
    settle(control_dsn, taken, error=error, is_sent=not errors, now=now)
    if parcel[0].kind is not AlertKind.DIGEST:
        beat(control_dsn, Heartbeat(delivered_at=now if has_arrived else None, failed_at=now if errors else None))
    return error


def text_of(parcel: Sequence[Alert]) -> tuple[str, str]:
    """Return title and text of messages that are sent together."""
    if len(parcel) == 1:
        return parcel[0].title, parcel[0].body
    return together_text(parcel[0].kind, [(alert.title, alert.body) for alert in parcel])
