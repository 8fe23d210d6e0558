"""Alembic's environment: runs the revisions on the connection that `oltp.store.migrate` passes in."""

from __future__ import annotations

from alembic import context

from oltp.store.tables import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="schema_revision",
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
