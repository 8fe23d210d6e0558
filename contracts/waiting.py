"""Waiting until something is so, with a deadline.

Belongs here: polling. Does not belong here: loops that wait for a signal to stop, retries of one store's conflicts
(`derived/lake_files.py`), the comparison's waits (`reconcile/context.py`: there a test sets the clock).
"""

from __future__ import annotations

from collections.abc import Callable

from contracts.errors import StackError

FIRST_PAUSE_SECONDS = 0.01
GROWTH = 1.5
"""Each pause is this much longer than the last: what is soon so is noticed at once, and long waits cost little."""


def comes_true(is_true: Callable[[], object], *, seconds: float, pause_seconds_max: float = 0.1) -> bool:
    """Poll until `is_true()`; return False if it is not so within `seconds`."""
    # Import it here: its import is slow, and most commands do not wait.
    from tenacity import Retrying, retry_if_not_result, stop_after_delay, wait_exponential

    polling = Retrying(
        retry=retry_if_not_result(bool),
        stop=stop_after_delay(seconds),
        wait=wait_exponential(multiplier=FIRST_PAUSE_SECONDS, exp_base=GROWTH, max=pause_seconds_max),
        retry_error_callback=lambda _: False,
    )
    return bool(polling(is_true))


def wait_until(
    is_true: Callable[[], object],
    *,
    timeout_seconds: float,
    failure: Callable[[], str],
    pause_seconds_max: float = 0.1,
) -> None:
    """Poll until `is_true()`; after the timeout raise StackError with `failure()` as its sentence."""
    if not comes_true(is_true, seconds=timeout_seconds, pause_seconds_max=pause_seconds_max):
        raise StackError(failure())
