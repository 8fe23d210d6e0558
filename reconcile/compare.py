"""The comparison engine: compares two relations of one shape down to every key.

There are three levels: the whole side, its segments (merchant x day x currency), its keys. The first two have row
counts, signed sums and a hash of the content, so that opposite errors cannot cancel. The third is a full outer join by
key that compares every column null-safely. The first two are computed independently of the join and must agree with it;
if they do not, the verdict is unknown.

Belongs here: comparing relations that one DuckDB connection can read. Does not belong here: where they come from. Like
Ghostferry's verifier and data-diff, it verifies with an implementation of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb

from contracts.errors import ComparisonError
from contracts.text import counted
from contracts.verdicts import (
    SHOWN_KEYS,
    WHOLE_KEY_CLASSES,
    ColumnDifference,
    Difference,
    DifferenceClass,
    Level,
    Scalar,
)
from reconcile.scratch import table
from reconcile.shapes import BOOLEAN, TIMESTAMP, WHOLE_NUMBERS, Shape, quoted

Row = tuple[Any, ...]

DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much evidence is kept; counts are always exact."""

    sample: int = SHOWN_KEYS
    """Largest number of keys per shape in the sample, which has both sides' values."""
    segments: int = 20


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of comparing one shape."""

    compared: int
    classes: dict[DifferenceClass, int] = field(default_factory=dict)
    levels: tuple[Level, ...] = ()
    segments_compared: int = 0
    segments_different: int = 0
    sample: tuple[Difference, ...] = ()

    @property
    def differences(self) -> int:
        """The number of keys that differ."""
        return sum(self.classes.values())

    def count(self, *kinds: DifferenceClass) -> int:
        """Return the number of keys of these classes."""
        return sum(self.classes.get(kind, 0) for kind in kinds)

    @property
    def different(self) -> int:
        """The number of keys that both sides have exactly once, with different content."""
        return sum(number for kind, number in self.classes.items() if kind not in WHOLE_KEY_CLASSES)


def compare(
    connection: duckdb.DuckDBPyConnection, shape: Shape, left: str, right: str, limits: Limits | None = None
) -> Outcome:
    """Compare relation `left` (the owner) with `right` (the copy); both have the shape's columns and types.

    Returns exact counts per class, both levels of totals, and a bounded sample. Raises ComparisonError if the levels
    and the keys contradict each other, duckdb.Error if a relation cannot be read.
    """
    limits = limits or Limits()
    rows = _write_segments(connection, shape, left, right)
    unique_left, unique_right = left, right
    _write_differences(connection, shape, left, right, [])
    if _may_repeat_keys(connection, shape, rows):
        unique_left, repeated_left = _without_duplicates(connection, shape, left, "left")
        unique_right, repeated_right = _without_duplicates(connection, shape, right, "right")
        _write_differences(connection, shape, unique_left, unique_right, repeated_left + repeated_right)
    classes = _count_classes(connection)
    segments_different = _scalar(connection, f"select count(*) from {table('segments')} where not is_equal")
    if bool(classes) != bool(segments_different):
        raise ComparisonError(
            f"The comparison of {shape.name} contradicts itself: "
            f"{counted(sum(classes.values()), 'key differs', 'keys differ')} in "
            f"{counted(segments_different, 'segment')}; run it again, and report it if it stays."
        )
    extra = classes.get(DifferenceClass.EXTRA, 0)
    return Outcome(
        compared=(rows.left if unique_left is left else _scalar(connection, f"select count(*) from {unique_left}"))
        + extra,
        classes=classes,
        levels=_levels(connection, shape, limits),
        segments_compared=rows.segments,
        segments_different=segments_different,
        sample=_sample(connection, shape, unique_left, unique_right, limits) if classes else (),
    )


def _scalar(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def _day(shape: Shape, alias: str = "") -> str:
    """Return the expression of a row's day: days since 1970 when the column is a timestamp, else the text."""
    if shape.day is None:
        return "null::VARCHAR"
    column = f"{alias}{quoted(shape.day)}"
    return f"epoch_us({column}) // {DAY_MICROSECONDS}" if shape.type_of(shape.day) == TIMESTAMP else column


def _shown_day(shape: Shape, day: str) -> str:
    """Return the expression that formats the value of `_day` as YYYY-MM-DD."""
    is_number = shape.day is not None and shape.type_of(shape.day) == TIMESTAMP
    return f"strftime(date '1970-01-01' + {day}::INTEGER, '%Y-%m-%d')" if is_number else day


def _segment_columns(shape: Shape, alias: str = "") -> tuple[str, str, str]:
    merchant = f"{alias}{quoted(shape.merchant)}" if shape.merchant else "null::VARCHAR"
    currency = f"{alias}{quoted(shape.currency)}" if shape.currency else "null::VARCHAR"
    return merchant, _day(shape, alias), currency


def _segment_side(shape: Shape, relation: str) -> str:
    merchant, day, currency = _segment_columns(shape)
    sums = "".join(f", sum({quoted(m.name)})::HUGEINT as {quoted('sum_' + m.name)}" for m in shape.measures)
    content = ", ".join(quoted(name) for name in shape.names)
    return (
        f"select {merchant} as merchant_id, {day} as day, {currency} as currency, count(*) as row_count, "
        f"sum(hash({content})::HUGEINT) as content{sums} from {relation} group by 1, 2, 3"
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Number of rows of each side, and number of segments."""

    left: int
    right: int
    segments: int


def _write_segments(connection: duckdb.DuckDBPyConnection, shape: Shape, left: str, right: str) -> _Rows:
    """Write table `segments`: both sides' counts, sums and content per segment."""
    on = " and ".join(f"l.{name} is not distinct from r.{name}" for name in ("merchant_id", "day", "currency"))
    sums = "".join(
        f", l.{quoted('sum_' + m.name)} as {quoted('left_' + m.name)}"
        f", r.{quoted('sum_' + m.name)} as {quoted('right_' + m.name)}"
        for m in shape.measures
    )
    same = "".join(
        f" and l.{quoted('sum_' + m.name)} is not distinct from r.{quoted('sum_' + m.name)}" for m in shape.measures
    )
    connection.execute(f"""
        create or replace table {table("segments")} as
        select coalesce(l.merchant_id, r.merchant_id) as merchant_id,
               {_shown_day(shape, "coalesce(l.day, r.day)")} as day,
               coalesce(l.currency, r.currency) as currency,
               coalesce(l.row_count, 0) as left_rows, coalesce(r.row_count, 0) as right_rows,
               (l.row_count is not distinct from r.row_count and l.content is not distinct from r.content{same})
               as is_equal{sums}
        from ({_segment_side(shape, left)}) as l full outer join ({_segment_side(shape, right)}) as r on {on}
    """)
    counts = connection.execute(
        f"select coalesce(sum(left_rows), 0), coalesce(sum(right_rows), 0), count(*) from {table('segments')}"
    ).fetchall()
    return _Rows(left=int(counts[0][0]), right=int(counts[0][1]), segments=int(counts[0][2]))


def _may_repeat_keys(connection: duckdb.DuckDBPyConnection, shape: Shape, rows: _Rows) -> bool:
    """Return whether a side may have a key more than once, judged by the result of the join.

    When the owner's keys are unique, every repeated key of the copy shows: the two sides have unequal numbers of
    matched rows, or the key is twice among the differences. A row that only one side has twice makes its segment
    unequal. We do not see a row that both sides have twice; the owner's primary keys exclude that.
    """
    key = ", ".join(quoted("key_" + name) for name in shape.key)
    found = connection.execute(f"""
        select count(*) filter (where kind = '{DifferenceClass.MISSING}'),
               count(*) filter (where kind = '{DifferenceClass.EXTRA}'),
               count(*), (select count(*) from (select distinct {key} from {table("differences")}))
        from {table("differences")}
    """).fetchall()
    missing, extra, total, keys = found[0]
    unequal = _scalar(connection, f"select count(*) from {table('segments')} where not is_equal")
    return bool(rows.left - missing != rows.right - extra or total != keys or (unequal and not total))


def _without_duplicates(
    connection: duckdb.DuckDBPyConnection, shape: Shape, relation: str, side: str
) -> tuple[str, list[str]]:
    """Return (a relation with unique keys, tables that list the keys that `relation` has more than once)."""
    key = ", ".join(quoted(name) for name in shape.key)
    rows, keys = _pair(connection, f"select count(*), count(distinct hash({key})) from {relation}")
    if rows == keys:
        return relation, []
    repeated, unique = table(f"repeated_{side}"), table(f"unique_{side}")
    connection.execute(
        f"create or replace table {repeated} as select {key} from {relation} group by {key} having count(*) > 1"
    )
    if not _scalar(connection, f"select count(*) from {repeated}"):
        return relation, []
    connection.execute(f"create or replace table {unique} as select distinct on ({key}) * from {relation}")
    return unique, [repeated]


def _pair(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[int, int]:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _differs(name: str) -> str:
    return f"l.{quoted(name)} is distinct from r.{quoted(name)}"


def _any_differs(names: list[str]) -> str:
    return "(" + " or ".join(_differs(name) for name in names) + ")" if names else "false"


def _kind(shape: Shape) -> str:
    """Return the SQL expression of a differing key's class; it tests classes in the order of DifferenceClass."""
    money = [column.name for column in shape.columns if column.is_money and not column.is_tax]
    tax = [column.name for column in shape.columns if column.is_tax]
    stale = f"r.{quoted(shape.version)} < l.{quoted(shape.version)}" if shape.version else "false"
    currency = _differs(shape.currency) if shape.currency else "false"
    return f"""case when l.present is null then '{DifferenceClass.EXTRA}'
        when r.present is null then '{DifferenceClass.MISSING}'
        when {stale} then '{DifferenceClass.STALE}'
        when {currency} then '{DifferenceClass.CURRENCY}'
        when {_any_differs(money)} then '{DifferenceClass.AMOUNT}'
        when {_any_differs(tax)} then '{DifferenceClass.TAX}'
        else '{DifferenceClass.DIFFERENT}' end"""


def _write_differences(
    connection: duckdb.DuckDBPyConnection, shape: Shape, left: str, right: str, repeated: list[str]
) -> None:
    """Write table `differences`: key, class and segment of every key that differs."""
    key = ", ".join(f"coalesce(l.{quoted(k)}, r.{quoted(k)}) as {quoted('key_' + k)}" for k in shape.key)
    on = " and ".join(f"l.{quoted(k)} = r.{quoted(k)}" for k in shape.key)
    left_segment, right_segment = _segment_columns(shape, "l."), _segment_columns(shape, "r.")
    names = ("merchant_id", "day", "currency")
    chosen = [f"case when l.present then {a} else {b} end" for a, b in zip(left_segment, right_segment, strict=True)]
    chosen[1] = _shown_day(shape, f"({chosen[1]})")
    segment = ", ".join(f"{value} as {name}" for value, name in zip(chosen, names, strict=True))
    unequal = _any_differs([column.name for column in shape.columns])
    twice = " ".join(_union_repeated(shape, name) for name in repeated)
    connection.execute(f"""
        create or replace table {table("differences")} as
        select {key}, {_kind(shape)} as kind, {segment}
        from (select *, true as present from {left}) as l
        full outer join (select *, true as present from {right}) as r on {on}
        where l.present is null or r.present is null or {unequal}
        {twice}
    """)
    if repeated:
        _keep_first_class(connection, shape)


def _union_repeated(shape: Shape, relation: str) -> str:
    key = ", ".join(quoted(name) for name in shape.key)
    return f"union all select {key}, '{DifferenceClass.DUPLICATE}', null, null, null from {relation}"


def _keep_first_class(connection: duckdb.DuckDBPyConnection, shape: Shape) -> None:
    """Keep only the first class, by the order of DifferenceClass, of a key with several classes."""
    order = " ".join(f"when '{kind}' then {number}" for number, kind in enumerate(DifferenceClass))
    key = ", ".join(quoted("key_" + name) for name in shape.key)
    connection.execute(f"""
        create or replace table {table("differences")} as select * from {table("differences")}
        qualify row_number() over (partition by {key} order by case kind {order} end) = 1
    """)


def _count_classes(connection: duckdb.DuckDBPyConnection) -> dict[DifferenceClass, int]:
    rows = connection.execute(f"select kind, count(*) from {table('differences')} group by 1").fetchall()
    found = {DifferenceClass(kind): int(number) for kind, number in rows}
    return {kind: found[kind] for kind in DifferenceClass if kind in found}


def _levels(connection: duckdb.DuckDBPyConnection, shape: Shape, limits: Limits) -> tuple[Level, ...]:
    names = [measure.name for measure in shape.measures]
    totals = "".join(f", sum({quoted('left_' + n)})::HUGEINT, sum({quoted('right_' + n)})::HUGEINT" for n in names)
    columns = "".join(f", {quoted('left_' + n)}, {quoted('right_' + n)}" for n in names)
    pod = connection.execute(
        "select null, null, null, coalesce(sum(left_rows), 0), coalesce(sum(right_rows), 0), "
        f"coalesce(bool_and(is_equal), true){totals} from {table('segments')}"
    ).fetchall()
    bad = connection.execute(
        f"select merchant_id, day, currency, left_rows, right_rows, is_equal{columns} from {table('segments')} "
        f"where not is_equal order by 1, 2, 3 limit {limits.segments:d}"
    ).fetchall()
    return tuple(_level(shape.name, names, row) for row in pod + bad)


def _level(entity: str, names: list[str], row: Row) -> Level:
    sums = row[6:]
    return Level(
        entity=entity,
        merchant_id=row[0],
        day=row[1],
        currency=row[2],
        left_rows=int(row[3]),
        right_rows=int(row[4]),
        is_equal=bool(row[5]),
        left_sums={name: int(sums[2 * i]) for i, name in enumerate(names) if sums[2 * i] is not None},
        right_sums={name: int(sums[2 * i + 1]) for i, name in enumerate(names) if sums[2 * i + 1] is not None},
    )


def _sample(
    connection: duckdb.DuckDBPyConnection, shape: Shape, left: str, right: str, limits: Limits
) -> tuple[Difference, ...]:
    """Return the sample: the first differing keys of each class in turn, with the values of both sides."""
    key = ", ".join(quoted("key_" + name) for name in shape.key)
    values = "".join(f", {_shown('l', c.name, c.type)}, {_shown('r', c.name, c.type)}" for c in shape.columns)
    connection.execute(f"""
        create or replace table {table("chosen")} as
        select *, row_number() over (partition by kind order by {key}) as turn
        from {table("differences")} order by turn, kind limit {limits.sample:d}
    """)
    for side, relation in (("left", left), ("right", right)):
        # Select the few rows before the joins; otherwise DuckDB would build a hash table of a whole side.
        connection.execute(f"""
            create or replace table {table("chosen_" + side)} as
            select s.*, true as present from {relation} as s semi join {table("chosen")} as d on {_same_key(shape, "s")}
        """)
    rows = connection.execute(f"""
        select d.kind, d.merchant_id, d.day, d.currency, l.present, r.present, {key}{values}
        from {table("chosen")} as d
        left join {table("chosen_left")} as l on {_same_key(shape, "l")}
        left join {table("chosen_right")} as r on {_same_key(shape, "r")}
        order by d.turn, d.kind
    """).fetchall()
    return tuple(_difference(shape, row) for row in rows)


def _same_key(shape: Shape, alias: str) -> str:
    return " and ".join(f"{alias}.{quoted(name)} = d.{quoted('key_' + name)}" for name in shape.key)


def _shown(alias: str, name: str, kind: str) -> str:
    column = f"{alias}.{quoted(name)}"
    if kind == TIMESTAMP:
        return f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    return column if kind in (*WHOLE_NUMBERS, BOOLEAN) else f"{column}::VARCHAR"


def _difference(shape: Shape, row: Row) -> Difference:
    kind, merchant, day, currency, has_left, has_right = row[:6]
    key, values = row[6 : 6 + len(shape.key)], row[6 + len(shape.key) :]
    is_whole = not (has_left and has_right)
    present = {column.name: values[2 * i if has_left else 2 * i + 1] for i, column in enumerate(shape.columns)}
    content = {**dict(zip(shape.key, key, strict=True)), **present}
    columns = (
        _column_difference(column.name, values[2 * i], values[2 * i + 1], is_whole=is_whole)
        for i, column in enumerate(shape.columns)
        if (column.is_measure if is_whole else values[2 * i] != values[2 * i + 1])
    )
    return Difference(
        entity=shape.name,
        key=tuple(key),
        kind=DifferenceClass(kind),
        # A repeated key has no single segment, so its merchant is taken from the row.
        merchant_id=content.get(shape.merchant) if merchant is None and shape.merchant else merchant,
        aggregate_key=shape.aggregate(content) if shape.aggregate else None,
        day=day,
        currency=currency,
        columns=tuple(columns),
    )


def _column_difference(name: str, left: Scalar, right: Scalar, *, is_whole: bool) -> ColumnDifference:
    numbers = [value for value in (left, right) if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) == 2:
        difference: int | None = numbers[1] - numbers[0]
    elif is_whole and numbers:
        difference = numbers[0] if left is None else -numbers[0]
    else:
        difference = None
    return ColumnDifference(column=name, left=left, right=right, difference=difference)
