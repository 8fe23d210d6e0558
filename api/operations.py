"""What operators may look at, and what needs the lake or the ledger, as functions that the stack hands in.

Belongs here: this port. Does not belong here: the functions (`stack/upkeep/operations.py`), the routes
(`api/routes/operator.py`). They need every store and the supervisor, which the interface itself does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from contracts.errors import StackError

Shown = dict[str, Any]
"""Values that JSON can hold, as the command of the same name answers with --json."""


def _missing(*_: Any, **__: Any) -> NoReturn:
    raise StackError("This process was not given the functions of operators.")


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The functions of operators, each of which only looks, and those about webhooks."""

    status: Callable[[], Shown] = _missing
    """As `tieout status --json`."""
    breaks: Callable[..., list[Shown]] = _missing
    """By `pod`, `merchant_id` (None: all), `is_ended` and `limit`, the oldest first."""
    find_break: Callable[[int], Shown] = _missing
    """One break with its history; NotFoundError."""
    repairs: Callable[[int], list[Shown]] = _missing
    """At most so many actions of repairs, the newest first."""
    promises: Callable[[], list[Shown]] = _missing
    """What each copy promises when it is down, and the newest drill that proves it."""
    notifications: Callable[[int], list[Shown]] = _missing
    """At most so many notifications of the payment provider that wait or are parked, the oldest first."""
    disputes: Callable[..., list[Shown]] = _missing
    """By `merchant_id` (None: all), `is_ended` and `limit`, the newest first."""
    find_dispute: Callable[[str], Shown] = _missing
    """One dispute with what was said of it; NotFoundError."""
    periods: Callable[[], list[Shown]] = _missing
    """The closed months with their certificates."""
    certificate: Callable[[str], bytes] = _missing
    """The certificate of a closed month, as it was made; NotFoundError."""
    webhook_standing: Callable[[str], Shown] = _missing
    """How far an endpoint for webhooks is; NotFoundError."""
    webhook_replay: Callable[..., Shown] = _missing
    """Tells an endpoint's events again, by `pod` and `from_cut` or `from_time`; `is_preview`: only says what."""
    webhook_skip: Callable[..., Shown] = _missing
    """Skips one message by `endpoint_id`, `event_id`, `by` and `reason`; `is_preview`: only says which it is."""
    report_file: Callable[[str, str, str], bytes] = _missing
    """The file of a closed month's report in a format, byte for byte; NotFoundError."""
