"""Three changes of an event as a developer makes them, each as edits of the source: a field more, a new name, a split.

Belongs here: the edits. What `python -m docs.generate` writes is not among them. Does not belong here: running the
product with them (`test_evolution.py`). docs/how-to/change-an-event.md describes the same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

EVENT = "contracts/events/refund.py"
TABLES = "oltp/store/tables/payments.py"
LIMITS = "oltp/store/tables/limits.py"
DOMAIN = "oltp/domain/refunds.py"
MART = "dbt_project/models/marts/refunds.sql"
MART_COLUMNS = "dbt_project/models/marts/finance.yml"


class Edit(NamedTuple):
    """One place in a file: text that is there once, and what takes its place."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """One change of the state of refunds."""

    name: str
    version: int
    """The schema version that events have afterwards."""
    migration: str
    """SQL for the tables of a pod."""
    edits: Sequence[Edit]

    def apply(self, source: Path, number: int) -> None:
        """Change the source; `number` is that of the migration."""
        for edit in self.edits:
            path = source / edit.path
            text = path.read_text()
            assert text.count(edit.old) == 1, f"{edit.path} has {text.count(edit.old)} times {edit.old!r}"
            path.write_text(text.replace(edit.old, edit.new))
        written = MIGRATION.format(name=self.name, this=f"{number:04}", before=f"{number - 1:04}", sql=self.migration)
        (source / f"oltp/store/migrations/versions/{number:04}_evolved.py").write_text(written)


MIGRATION = '''"""{name}."""

from alembic import op

revision = "{this}"
down_revision = "{before}"


def upgrade() -> None:
    op.get_bind().connection.driver_connection.execute("""{sql}""")
'''


def column(name: str, description: str) -> str:
    """Return a column of a mart as its properties have it."""
    return f'      - {{name: {name}, data_type: varchar, description: "{description}"}}\n'


FAILURE_COLUMN = '      - {name: failure_reason, data_type: varchar, description: "Why it failed'

REASON_COLUMN = (
    '    text_column("provider_reference", nullable=True),\n    text_column("failure_reason", nullable=True),\n'
)
"""Of refunds."""

ADDED = Evolution(
    name="A field more: who asked for the refund",
    version=1,
    migration="alter table oltp.refunds add column asked_by text not null default 'unknown'",
    edits=(
        Edit(
            EVENT,
            '    """When the money was paid back; None until then."""\n',
            '    """When the money was paid back; None until then."""\n'
            '    asked_by: Reference = "unknown"\n    """Who asked for it."""\n',
        ),
        Edit(TABLES, REASON_COLUMN, f'{REASON_COLUMN}    text_column("asked_by"),\n'),
        Edit(
            LIMITS,
            '    "failure_reason": limits.NOTE,\n',
            '    "failure_reason": limits.NOTE,\n    "asked_by": limits.REFERENCE,\n',
        ),
        Edit(
            "oltp/commands/request_refund.py",
            "    refund_id: Uuid | None = None\n",
            '    refund_id: Uuid | None = None\n    asked_by: Reference = "unknown"\n',
        ),
        Edit(
            "oltp/commands/request_refund.py",
            "        return save(tx, None, refund,",
            "        refund = msgspec.structs.replace(refund, asked_by=self.asked_by)\n"
            "        return save(tx, None, refund,",
        ),
        Edit(
            "traffic/journeys.py",
            '            refund_id=self._id("refund"),\n',
            '            refund_id=self._id("refund"),\n            asked_by="phone",\n',
        ),
        Edit(MART, "    failure_reason,\n", "    failure_reason,\n    asked_by,\n"),
        Edit(MART_COLUMNS, FAILURE_COLUMN, column("asked_by", "Who asked for it.") + FAILURE_COLUMN),
    ),
)

RENAMED = Evolution(
    name="A new name: provider_reference is called provider_refund",
    version=2,
    migration="alter table oltp.refunds rename column provider_reference to provider_refund",
    edits=(
        Edit(EVENT, "    provider_reference: str | None\n", "    provider_refund: str | None\n"),
        Edit(
            EVENT,
            "class RefundState(AggregateState",
            '''def _renamed(state: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has another name for it."""
    kept = {name: value for name, value in state.items() if name != "provider_reference"}
    return kept | {"provider_refund": state["provider_reference"]}


class RefundState(AggregateState''',
        ),
        Edit(
            EVENT,
            '    AGGREGATE_TYPE: ClassVar[str] = "refund"\n',
            '    AGGREGATE_TYPE: ClassVar[str] = "refund"\n'
            "    UPCASTERS: ClassVar[tuple[Upcaster, ...]] = (_renamed,)\n"
            "    RETIRED: ClassVar[Mapping[int, date]] = {1: date(2020, 12, 31)}\n",
        ),
        Edit(
            EVENT,
            "from datetime import datetime\n",
            "from collections.abc import Mapping\nfrom datetime import date, datetime\n",
        ),
        Edit(EVENT, "from typing import ClassVar\n", "from typing import Any, ClassVar\n"),
        Edit(
            EVENT,
            "from contracts.events.common import AggregateState, Value\n",
            "from contracts.events.common import AggregateState, Upcaster, Value\n",
        ),
        Edit(
            TABLES,
            '    text_column("provider_reference", nullable=True),\n',
            '    text_column("provider_refund", nullable=True),\n',
        ),
        Edit(
            LIMITS,
            '    "asked_by": limits.REFERENCE,\n',
            '    "asked_by": limits.REFERENCE,\n    "provider_refund": limits.REFERENCE,\n',
        ),
        Edit(DOMAIN, "        provider_reference=None,\n", "        provider_refund=None,\n"),
        Edit(
            DOMAIN, "        provider_reference=provider_reference,\n", "        provider_refund=provider_reference,\n"
        ),
        Edit(
            "repair/believed.py",
            "provider_reference=present.provider_reference,",
            "provider_refund=present.provider_refund,",
        ),
        Edit(MART, "    provider_reference,\n", "    provider_refund,\n    provider_refund as provider_reference,\n"),
        Edit(
            MART_COLUMNS,
            column("asked_by", "Who asked for it."),
            column("asked_by", "Who asked for it.") + column("provider_refund", "The provider's name for it."),
        ),
    ),
)

SPLIT = Evolution(
    name="A split: provider_refund is a kind and a number",
    version=3,
    migration="""
        alter table oltp.refunds add column provider_kind text, add column provider_number text;
        select oltp.declare_bypass('the name that the provider has for a refund is split');
        update oltp.refunds set
            provider_kind = split_part(provider_refund, '_', 1),
            provider_number = substr(provider_refund, length(split_part(provider_refund, '_', 1)) + 2)
        where provider_refund is not null;
        set constraints all immediate;
        alter table oltp.refunds drop column provider_refund""",
    edits=(
        Edit(
            EVENT,
            "    provider_refund: str | None\n",
            "    provider_kind: str | None\n"
            '    """How the provider\'s name for it begins; None until the provider has it."""\n'
            "    provider_number: str | None\n",
        ),
        Edit(
            EVENT,
            "class RefundState(AggregateState",
            '''def split_name(name: str | None) -> tuple[str | None, str | None]:
    """Return the two parts of a provider's name for a refund."""
    if name is None:
        return None, None
    kind, _, number = name.partition("_")
    return kind, number


def _split(state: dict[str, Any]) -> dict[str, Any]:
    """Version 3 has the parts."""
    kept = {name: value for name, value in state.items() if name != "provider_refund"}
    kind, number = split_name(state["provider_refund"])
    return kept | {"provider_kind": kind, "provider_number": number}


class RefundState(AggregateState''',
        ),
        Edit(EVENT, "= (_renamed,)\n", "= (_renamed, _split)\n"),
        Edit(
            TABLES,
            '    text_column("provider_refund", nullable=True),\n',
            '    text_column("provider_kind", nullable=True),\n    text_column("provider_number", nullable=True),\n',
        ),
        Edit(
            LIMITS,
            '    "provider_refund": limits.REFERENCE,\n',
            '    "provider_kind": limits.REFERENCE,\n    "provider_number": limits.REFERENCE,\n',
        ),
        Edit(DOMAIN, "        provider_refund=None,\n", "        provider_kind=None,\n        provider_number=None,\n"),
        Edit(
            DOMAIN,
            "        provider_refund=provider_reference,\n",
            "        provider_kind=split_name(provider_reference)[0],\n"
            "        provider_number=split_name(provider_reference)[1],\n",
        ),
        Edit(
            DOMAIN,
            "import RefundLine, RefundLineTax, RefundState, RefundStatus\n",
            "import RefundLine, RefundLineTax, RefundState, RefundStatus, split_name\n",
        ),
        Edit(
            "repair/believed.py",
            "provider_refund=present.provider_refund,",
            "provider_kind=present.provider_kind,\n                provider_number=present.provider_number,",
        ),
        Edit(
            MART,
            "    provider_refund,\n    provider_refund as provider_reference,\n",
            "    provider_kind,\n    provider_number,\n"
            "    provider_kind || '_' || provider_number as provider_reference,\n",
        ),
        Edit(
            MART_COLUMNS,
            column("provider_refund", "The provider's name for it."),
            column("provider_kind", "How the provider's name for it begins.")
            + column("provider_number", "How it ends."),
        ),
    ),
)

EVOLUTIONS = (ADDED, RENAMED, SPLIT)
