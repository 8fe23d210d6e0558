"""The type of an identity of OLTP's figures: two figures of the same rows that must agree.

Belongs here: that type. Does not belong here: which identities exist (`oltp_identities.py`, `tax_identities.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from reconcile.entities import AGGREGATE_ID
from reconcile.shapes import HUGEINT, Column, Shape, belongs_to


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Two figures of the same rows: `expected` is computed from the parts, `actual` is stored.

    `rows` is DuckDB SQL that returns aggregate_id, merchant_id, currency, expected and actual; one row per figure. A
    row breaks the identity when the two figures differ, or, for a limit, when `actual` is larger.
    """

    name: str
    aggregate_type: str
    rows: str
    is_limit: bool = False

    @property
    def shape(self) -> Shape:
        """The shape of a difference: the aggregate is the key, the figure the column."""
        return Shape(
            name=f"{self.aggregate_type}.{self.name}",
            key=(AGGREGATE_ID,),
            columns=(Column(name=self.name, type=HUGEINT),),
            currency="currency",
            aggregate=belongs_to(self.aggregate_type, AGGREGATE_ID),
        )
