"""Alembic's environment and the revisions of a pod's schema; run by `oltp.store.migrate`."""
