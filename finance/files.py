"""The file formats of a report, by name.

Belongs here: the list of formats. Does not belong here: how each is written (one module per format in this folder).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from finance.page import html_file
from finance.presentation import as_csv
from finance.spreadsheet import xlsx_file
from finance.statement import Statement, certificate_file, json_file

FILES: Mapping[str, Callable[[Statement], bytes]] = {
    "json": json_file,
    "csv": lambda statement: as_csv(statement.report).encode(),
    "certificate.json": certificate_file,
    "xlsx": xlsx_file,
    "html": html_file,
}
"""Format -> its writer; the same statement gives the same bytes. `certificate.json` accompanies a CSV file."""
