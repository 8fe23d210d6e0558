"""Finance: periods that close, reports of them, the certificate that every report carries, and how reports are written.

Belongs here: which facts a period's report is made of, what was proven about them, tables of closed periods, file
formats. Does not belong here: how a figure is computed (dbt_project/models/marts), comparing (`reconcile/`; its results
are handed in as values), commands (`cli/`).
"""
