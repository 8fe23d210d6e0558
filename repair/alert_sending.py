"""Sending: claim a message, hand it to every target that has not taken it, keep what became of it.

Targets are addresses of Apprise (mail, chat, webhooks). They hold secrets: an address is never logged nor kept, only a
fingerprint of it; what a target answers is not kept either, since it may quote the address, only its HTTP status.

Belongs here: Apprise, and the loop of a sender. Does not belong here: which messages there are (`alerts.py`), who has
claimed them (`alert_outbox.py`).
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.clock import Clock
from repair.alert_outbox import beat, claim, settle
from repair.alerts import Alert, AlertKind, Heartbeat

if TYPE_CHECKING:
    from apprise import Apprise

TARGET_SECONDS_MAX = 12
"""A target that does not answer for this long has not taken the message."""
FINGERPRINT_CHARACTERS = 12
HTTP_STATUS = re.compile(r"error=(\d{3})\b")
NO_CONNECTION = re.compile(r"connection error|timed? ?out", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Somebody who is told. The text of one shows no secret."""

    number: int
    """Its place in the setting, from 1."""
    fingerprint: str
    scheme: str
    deliver: Callable[[str, str], str]
    """Title, body -> an empty text when it took the message, else why not."""

    def __repr__(self) -> str:
        return f"target {self.number} ({self.scheme})"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one run of the sender did."""

    delivered: tuple[int, ...] = ()
    """Messages that every target has now."""
    failed: tuple[tuple[int, str], ...] = ()
    """Messages that some target did not take, and why."""


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
    """Keep Apprise's log out of ours: it quotes addresses. What is needed of it is in the result of a call."""
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


def _delivered(target: Target, alert: Alert) -> str:
    try:
        return target.deliver(alert.title, alert.body)
    except Exception as error:  # of one target: the others are told all the same
        return f"could not be tried ({type(error).__name__})"


def send_pending(
    control_dsn: str,
    targets: Mapping[AlertKind, Sequence[Target]],
    *,
    clock: Clock,
    messages_max: int = 50,
    seconds_max: float = 20.0,
    is_forced: bool = False,
) -> Sent:
    """Send what is due, each message at least once; a target's failure is kept, and tried again later.

    `targets` says who gets a kind of message; a kind that nobody gets waits. Forced: everything that waits, also what
    was given up. No message is begun after `seconds_max`.
    """
    until = time.monotonic() + seconds_max
    kinds = [kind for kind, of_kind in targets.items() if of_kind]
    delivered: list[int] = []
    failed: list[tuple[int, str]] = []
    after = 0
    while len(delivered) + len(failed) < messages_max and time.monotonic() < until:
        alert = claim(control_dsn, kinds, clock(), after=after, is_forced=is_forced)
        if alert is None:
            break
        after = alert.alert_id
        error = _send(control_dsn, alert, targets[alert.kind], clock)
        if error:
            failed.append((alert.alert_id, error))
        else:
            delivered.append(alert.alert_id)
    return Sent(delivered=tuple(delivered), failed=tuple(failed))


def _send(control_dsn: str, alert: Alert, targets: Sequence[Target], clock: Clock) -> str:
    """Hand a claimed message to the targets that do not have it; return why one did not take it, or an empty text."""
    took = list(alert.delivered_to)
    errors = []
    for target in targets:
        if target.fingerprint in took:
            continue
        error = _delivered(target, alert)
        if error:
            errors.append(f"{target!r} {error}")
        else:
            took.append(target.fingerprint)
    now = clock()
    settle(control_dsn, alert, delivered_to=took, error="; ".join(errors), is_sent=not errors, now=now)
    if alert.kind is not AlertKind.DIGEST:
        has_arrived = len(took) > len(alert.delivered_to)
        beat(control_dsn, Heartbeat(delivered_at=now if has_arrived else None, failed_at=now if errors else None))
    return "; ".join(errors)
