"""How the messages of a pod's webhooks are sent, put together from settings.

Belongs here: what the sender needs, and no more: it runs in every pod's worker. Does not belong here: what people ask
about webhooks (`stack/composition/webhooks.py`).
"""

from __future__ import annotations

from datetime import timedelta

import psycopg

from api.signing import derived_secret
from contracts.ownership import WEBHOOKS
from contracts.settings import Settings
from contracts.webhooks import PURPOSE
from derived.webhooks.posting import Poster
from derived.webhooks.sending import Sending
from stack.composition.pepper import pepper_of

(PAIR,) = WEBHOOKS.found_by
# Read here by SQL alone: comparison and ledger as code would take the worker another 60 MB.
_PROVEN = """
select coalesce(max(cut), 0) from reconcile.results
where pair = %(pair)s and pod = %(pod)s and verdict = 'consistent' and checked_at > now() - interval '1 day'
  and not exists (select from trust.breaks where pair = %(pair)s and pod = %(pod)s and ended_at is null)
"""


def master_of(settings: Settings) -> bytes:
    """Return what the endpoints' secrets are computed from."""
    return derived_secret(pepper_of(settings), PURPOSE)


def sending_of(settings: Settings, pod: str) -> Sending:
    """Return how the messages of a pod are sent."""
    master = master_of(settings)
    return Sending(
        control_dsn=settings.control_dsn,
        pod=pod,
        give_up=timedelta(hours=settings.webhook_give_up_hours),
        waiting_max=settings.webhook_waiting_max,
        keep=timedelta(days=settings.webhook_keep_days),
        poster=lambda: Poster(
            master=master,
            open_hosts=settings.webhook_open_hosts,
            timeout_seconds=settings.webhook_timeout_seconds,
        ),
        proven_cut=lambda: _proven_cut(settings, pod),
    )


def _proven_cut(settings: Settings, pod: str) -> int:
    """Return the cut up to which the notes were proven within a day, while nothing about them is open; 0: none."""
    with psycopg.connect(settings.control_dsn, connect_timeout=10) as connection:
        row = connection.execute(_PROVEN, {"pair": PAIR, "pod": pod}).fetchone()
    return 0 if row is None else int(row[0])
