"""The one MetaData of a pod's tables, and the naming convention of its constraints."""

from __future__ import annotations

from sqlalchemy import MetaData

SCHEMA = "oltp"
"""PostgreSQL schema of every table of a pod."""

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)
