"""Columns, checks and shapes of tables that the tables of a pod share.

Belongs here: how ids, moments, amounts and enums are declared, and what all roots, or all their parts, begin with.
Does not belong here: any one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Table, Text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.schema import SchemaItem

from oltp.store.tables.metadata import SCHEMA, metadata


def root_table(name: str, key: str, *rest: SchemaItem) -> Table:
    """Return the table of an aggregate's root, with its id, its merchant and its version before the rest."""
    own = id_column(key, primary_key=True)
    return Table(name, metadata, own, merchant_column(), version_column(), *rest)


def part_table(name: str, key: str, of: str, *rest: SchemaItem) -> Table:
    """Return the table of parts with an id of their own; `of`: the table and key of what they are parts of."""
    whole = id_column(of.partition(".")[2], ForeignKey(f"{SCHEMA}.{of}"))
    return Table(name, metadata, id_column(key, primary_key=True), whole, merchant_column(), *rest)


def merchant_column() -> Column[Any]:
    """Return `merchant_id text`, which every table has.

    Tables with many writes have no foreign key to `merchants`, because it would lock the merchant's row for every sale.
    Instead, triggers check that a child has its root's merchant, `oltp.commands.execute` checks that a root's merchant
    exists, and the application has no right to delete merchants.
    """
    return Column("merchant_id", Text, nullable=False)


def id_column(name: str, *constraints: Any, primary_key: bool = False, nullable: bool = False) -> Column[Any]:
    """Return a uuid column."""
    return Column(name, UUID(as_uuid=True), *constraints, primary_key=primary_key, nullable=nullable)


def text_column(name: str, *, nullable: bool = False) -> Column[Any]:
    """Return a text column."""
    return Column(name, Text, nullable=nullable)


def integer_column(name: str, *, nullable: bool = False) -> Column[Any]:
    """Return a 64-bit integer column, for amounts and quantities alike."""
    return Column(name, BigInteger, nullable=nullable)


def moment_column(name: str, *, nullable: bool = False) -> Column[Any]:
    """Return a timestamptz column."""
    return Column(name, DateTime(timezone=True), nullable=nullable)


def text_columns(*names: str) -> list[Column[Any]]:
    """Return text columns, none of them nullable."""
    return [text_column(name) for name in names]


def integer_columns(*names: str) -> list[Column[Any]]:
    """Return 64-bit integer columns, none of them nullable."""
    return [integer_column(name) for name in names]


def version_column() -> Column[Any]:
    """Return `version bigint`, which every root table has."""
    return Column("version", BigInteger, nullable=False)


def known(column: str, values: type[StrEnum] | Iterable[str]) -> CheckConstraint:
    """Return the check that `column` is one of `values`, named `<table>_<column>_known`."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=f"{column}_known")


def not_negative(*columns: str) -> list[CheckConstraint]:
    """Return one check per column, named `<table>_<column>_not_negative`."""
    return [CheckConstraint(f"{column} >= 0", name=f"{column}_not_negative") for column in columns]


def currency_check() -> CheckConstraint:
    """Return the check that `currency` looks like an ISO 4217 code."""
    return CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_code")


def version_check() -> CheckConstraint:
    """Return the check that versions start at 1."""
    return CheckConstraint("version >= 1", name="version_positive")
