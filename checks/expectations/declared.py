"""How an expectation is declared: a sentence, and a query for the rows that break it. Pure.

A declaration becomes SQL that both PostgreSQL and DuckDB accept. If Great Expectations has an expectation of its own
for the same rule, the declaration also names that one. Belongs here: the values, and the constructors that suites use,
one line per expectation. Does not belong here: any suite, any connection, Great Expectations itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How serious it is if rows break the rule."""

    CRITICAL = "critical"
    """Figures that people act on are wrong."""
    WARNING = "warning"
    """Somebody should look, but nothing that is charged, owed or shipped depends on it."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One rule that must hold for every row."""

    name: str
    """Unique in its suite."""
    statement: str
    """What must hold, in a sentence."""
    where: str = ""
    """SQL condition on `t`, the suite's table: a row that meets it breaks the rule."""
    query: str = ""
    """Used instead of `where`: a query on `t` for the rows that break the rule; the suite's key comes first."""
    shown: tuple[str, ...] = ()
    """Columns of a row that are shown besides its key."""
    native: str = ""
    """Great Expectations' class for the same rule, if there is one; it then writes its own SQL for PostgreSQL."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The rules for one table."""

    name: str
    table: str
    """The table's name with its schema."""
    key: tuple[str, ...]
    """Columns that identify a row."""
    asset: str
    """The asset that the suite checks: an aggregate type of OLTP, or a mart."""
    adds: str
    """What this suite checks and neither constraints nor comparisons do."""
    expectations: tuple[Expectation, ...]

    def rows(self, expectation: Expectation, table: str) -> str:
        """Return the SQL of the rows that break the rule; `table` is the source of the suite's rows."""
        query = expectation.query or self._select(expectation)
        rest = f", {query.removeprefix('with ')}" if query.startswith("with ") else f" {query}"
        # PostgreSQL before 16 requires a name for a subquery. Great Expectations adds one to some queries, but not to
        # those with a join; therefore every query has a join.
        return f"with t as (select looked_at.* from {table} as looked_at cross join (select 1) as joined){rest}"

    def _select(self, expectation: Expectation) -> str:
        columns = dict.fromkeys([*self.key, *expectation.shown])
        texts = ", ".join(f"cast(t.{column} as varchar) as {column}" for column in columns)
        return f"select {texts} from t where {expectation.where}"


def suite_of(table: str, key: tuple[str, ...], adds: str, *rules: Expectation, asset: str = "") -> Suite:
    """Return the suite of a table, by default with the asset of its name: no two rows have one key, and these rules."""
    name = table.rpartition(".")[2]
    rules = (unique(*key), *rules)
    return Suite(name=name, table=table, key=key, asset=asset or name, adds=adds, expectations=rules)


def never_null(*columns: str) -> tuple[Expectation, ...]:
    """Every row has a value in each of these columns."""
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
    """The column's value is one of these."""
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
    """The number in each of these columns is at least `minimum`."""
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
    # For several columns together, Great Expectations' own expectation counts the rows but does not name them.
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
    """The condition is true for every row of `t`; null (unknown, because a value is missing) does not count as true."""
    return Expectation(
        name=name, statement=statement, where=f"({condition}) is not true", shown=shown, severity=severity
    )


def no_rows(name: str, statement: str, query: str, *, severity: Severity = Severity.CRITICAL) -> Expectation:
    """The query returns no rows. It may read other tables besides `t`; its first columns are the key."""
    return Expectation(name=name, statement=statement, query=" ".join(query.split()), severity=severity)


def _literal(value: str) -> str:
    quoted = value.replace("'", "''")
    return f"'{quoted}'"
