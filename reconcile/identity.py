"""What an identity of OLTP's figures is: two figures of the same rows that must agree.

Belongs here: that value. Does not belong here: which identities there are (`oltp_identities.py`, `tax_identities.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from reconcile.entities import AGGREGATE_ID
from reconcile.shapes import HUGEINT, Column, Shape, belongs_to


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Two figures of the same rows: `expected` from the parts, `actual` as stored.

    `rows` is DuckDB SQL that delivers aggregate_id, merchant_id, currency, expected and actual; a row per figure. It is
    broken where the two differ, or, for a limit, where `actual` is more.
    """

    name: str
    aggregate_type: str
    rows: str
    is_limit: bool = False

    @property
    def shape(self) -> Shape:
        """What a difference names: the aggregate, and the figure."""
        return Shape(
            name=f"{self.aggregate_type}.{self.name}",
            key=(AGGREGATE_ID,),
            columns=(Column(name=self.name, type=HUGEINT),),
            currency="currency",
            aggregate=belongs_to(self.aggregate_type, AGGREGATE_ID),
        )
