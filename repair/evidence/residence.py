"""Where the merchants live whose aggregates differ, for those that have moved to another pod.

The events of an aggregate that has moved are in several pods; its row is read and written only where its merchant
lives. What an earlier pod still holds of the row is nobody's. Belongs here: telling who has moved, and where to. Does
not belong here: what the pods hold of an aggregate (`repair/evidence/aggregates.py`), the comparison's own answer
(`reconcile/residence.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import psycopg

from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.settings import Settings

EPOCHS = """
select m.merchant_id, r.directory_epoch
from oltp.merchants as m left join oltp.residents as r on r.merchant_id = m.merchant_id
where m.merchant_id = any(%s)
"""

Epochs = Mapping[str, int | None]
"""Merchant with rows in a pod -> the epoch of the directory since which it lives there; None: it does not."""


@dataclass(frozen=True, kw_only=True)
class Residence:
    """The merchants that have moved."""

    homes: Mapping[str, str] = field(default_factory=dict)
    """Merchant -> the pod where it lives now."""
    nowhere: frozenset[str] = frozenset()
    """Merchants with rows in several pods that live in none of them."""

    def has_moved(self, key: str) -> bool:
        """Return whether the aggregate's merchant has moved, so that its events may be in any pod."""
        return _merchant(key) in self.homes

    def is_nowhere(self, key: str) -> bool:
        """Return whether nobody can say which pod's row of the aggregate is right."""
        return _merchant(key) in self.nowhere

    def home(self, key: str, pod: str) -> str:
        """Return the pod that has the aggregate's row; `pod` if its merchant has never moved."""
        return self.homes.get(_merchant(key), pod)


def residence_of(settings: Settings, keys: Mapping[str, Collection[str]]) -> Residence:
    """Return where the merchants of these aggregates (pod -> keys) live; of who never moved, only its pod is read."""
    suspects = {
        merchant
        for pod, of_pod in keys.items()
        for merchant, epoch in _epochs(settings, pod, {_merchant(key) for key in of_pod}).items()
        if epoch != FIRST_DIRECTORY_EPOCH
    }
    if not suspects:
        return Residence()
    found = {pod.pod: _epochs(settings, pod.pod, suspects) for pod in settings.pods}
    homes: dict[str, str] = {}
    nowhere: set[str] = set()
    for merchant in suspects:
        lived = [(epoch, pod) for pod, epochs in found.items() if (epoch := epochs.get(merchant)) is not None]
        if lived:
            homes[merchant] = max(lived)[1]
        elif sum(merchant in epochs for epochs in found.values()) > 1:
            nowhere.add(merchant)
    return Residence(homes=homes, nowhere=frozenset(nowhere))


def _epochs(settings: Settings, pod: str, merchants: Collection[str]) -> Epochs:
    if not merchants:
        return {}
    with psycopg.connect(settings.pod(pod).reader_dsn, autocommit=True) as connection:
        return dict(connection.execute(EPOCHS, [sorted(merchants)]).fetchall())


def _merchant(key: str) -> str:
    return key.split("/", 1)[0]
