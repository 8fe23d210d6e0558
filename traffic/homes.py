"""The pods of the merchants of an import, existing and new.

Belongs here: choosing pods. Does not belong here: the directory, which makes the binding decision
(`oltp/directory.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def place_merchants(rows: Mapping[str, int], placed: Mapping[str, str], pods: Sequence[str]) -> dict[str, str]:
    """Return the pod of every merchant: its present pod or, largest merchant first, the pod with the fewest rows."""
    homes = {merchant_id: placed[merchant_id] for merchant_id in rows if merchant_id in placed}
    load = {pod: sum(rows[merchant_id] for merchant_id, home in homes.items() if home == pod) for pod in pods}
    for merchant_id in sorted(rows, key=lambda merchant_id: (-rows[merchant_id], merchant_id)):
        if merchant_id not in homes:
            homes[merchant_id] = min(pods, key=lambda pod: load[pod])
            load[homes[merchant_id]] += rows[merchant_id]
    return homes
