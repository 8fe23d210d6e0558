"""How the messages of a pod's webhooks are sent, put together from settings.

Belongs here: what the sender needs, and no more: it runs in every pod's worker. Does not belong here: what people ask
about webhooks (`stack/composition/webhooks.py`).
"""

from __future__ import annotations

from datetime import timedelta

from api.signing import derived_secret
from contracts.settings import Settings
from contracts.webhooks import PURPOSE
from derived.webhooks.posting import Poster
from derived.webhooks.sending import Sending
from stack.composition.pepper import pepper_of


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
    # Imported here: it is asked for once an hour, and needs comparison and ledger.
    from stack.composition.webhooks import proven_cut

    return proven_cut(settings, pod)
