"""Finance: periods that are closed, their reports, the certificate of every report, and the report's file formats.

Belongs here: which facts belong to a period's report, what was proven about them, tables of closed periods, file
formats. Does not belong here: how a figure is computed (dbt_project/models/marts), comparing (`reconcile/`; its results
are passed in as values), commands (`cli/`).
"""
