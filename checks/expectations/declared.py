"""How an expectation is declared: a sentence, and the rows that must not be there. Pure.

A declaration becomes SQL that PostgreSQL and DuckDB both read, and, where Great Expectations has an expectation of its
own for it, the name of that one. Belongs here: the values and the constructors that suites are written with, one line
an expectation. Does not belong here: any suite, any connection, Great Expectations itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """What it means when rows are found."""

    CRITICAL = "critical"
    """Figures that people act on are wrong."""
    WARNING = "warning"
    """Somebody should look; nothing that is charged, owed or shipped depends on it."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One thing that must hold of every row."""

    name: str
    """Unique in its suite."""
    statement: str
    """What must hold, in a sentence."""
    where: str = ""
    """Condition of a row of `t`, the suite's table, that must not be there."""
    query: str = ""
    """Instead of `where`: delivers the rows that must not be there from `t`, the suite's key first."""
    shown: tuple[str, ...] = ()
    """Columns that are shown of a row besides its key."""
    native: str = ""
    """Great Expectations' class for the same, where it has one; it then asks PostgreSQL in its own words."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What must hold of one table."""

    name: str
    table: str
    """With its schema."""
    key: tuple[str, ...]
    """Columns by which a row is named."""
    asset: str
    """The node of the graph that it is about: an aggregate type of OLTP, or a mart."""
    adds: str
    """What it looks at that neither constraints nor comparisons do."""
    expectations: tuple[Expectation, ...]

    def rows(self, expectation: Expectation, table: str) -> str:
        """Return the SQL of the rows that must not be there; `table` is where the suite's rows come from."""
        query = expectation.query or self._select(expectation)
        rest = f", {query.removeprefix('with ')}" if query.startswith("with ") else f" {query}"
        # PostgreSQL before 16 wants a name for a subquery. Great Expectations names it itself in some queries, and
        # leaves it to us in those with a join; so each has one.
        return f"with t as (select looked_at.* from {table} as looked_at cross join (select 1) as joined){rest}"

    def _select(self, expectation: Expectation) -> str:
        columns = dict.fromkeys([*self.key, *expectation.shown])
        texts = ", ".join(f"cast(t.{column} as varchar) as {column}" for column in columns)
        return f"select {texts} from t where {expectation.where}"


def never_null(*columns: str) -> tuple[Expectation, ...]:
    """Every row has a value."""
    return tuple(
        Expectation(
            name=f"{column}_is_there",
            statement=f"{column} is never missing.",
            where=f"t.{column} is null",
            native="ExpectColumnValuesToNotBeNull",
            arguments={"column": column},
        )
        for column in columns
    )


def one_of(column: str, values: Iterable[str]) -> Expectation:
    """The value is one of these."""
    known = sorted(map(str, values))
    listed = ", ".join(_literal(value) for value in known)
    return Expectation(
        name=f"{column}_is_known",
        statement=f"{column} is one of {', '.join(known)}.",
        where=f"t.{column} not in ({listed})",
        shown=(column,),
        native="ExpectColumnValuesToBeInSet",
        arguments={"column": column, "value_set": known},
    )


def at_least(minimum: int, *columns: str) -> tuple[Expectation, ...]:
    """The number is not smaller."""
    return tuple(
        Expectation(
            name=f"{column}_is_at_least_{minimum}",
            statement=f"{column} is at least {minimum}.",
            where=f"t.{column} < {minimum:d}",
            shown=(column,),
            native="ExpectColumnValuesToBeBetween",
            arguments={"column": column, "min_value": minimum},
        )
        for column in columns
    )


def unique(*columns: str) -> Expectation:
    """No two rows have the same values in these columns."""
    names = ", ".join(columns)
    texts = ", ".join(f"cast({column} as varchar) as {column}" for column in columns)
    # Of several columns together Great Expectations' own says how many, but not which.
    is_single = len(columns) == 1
    return Expectation(
        name=f"{'_'.join(columns)}_is_unique",
        statement=f"No two rows have the same {names}.",
        query=f"select {texts}, count(*) as copies from t group by {names} having count(*) > 1",
        native="ExpectColumnValuesToBeUnique" if is_single else "",
        arguments={"column": columns[0]} if is_single else {},
    )


def holds(
    name: str, statement: str, condition: str, *shown: str, severity: Severity = Severity.CRITICAL
) -> Expectation:
    """The condition is true of every row of `t`; unknown, because something is missing, is not true."""
    return Expectation(
        name=name, statement=statement, where=f"({condition}) is not true", shown=shown, severity=severity
    )


def no_rows(name: str, statement: str, query: str, *, severity: Severity = Severity.CRITICAL) -> Expectation:
    """The query, which may look at other tables besides `t`, delivers nothing; its columns begin with the key."""
    return Expectation(name=name, statement=statement, query=" ".join(query.split()), severity=severity)


def _literal(value: str) -> str:
    quoted = value.replace("'", "''")
    return f"'{quoted}'"
