"""Processes that use no data frames do not import pandas; who needs it gets it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from contracts.pandas_apart import keep_pandas_out, let_pandas_in
keep_pandas_out()
import duckdb, pyarrow
assert duckdb.connect().execute("select $x + 1, $y", {"x": 1, "y": "a"}).fetchall() == [(2, "a")]
assert pyarrow.table({"a": [1, None]}).num_rows == 2
assert "pandas" not in sys.modules
let_pandas_in()
import pandas
keep_pandas_out()
let_pandas_in()
assert sys.modules["pandas"] is pandas
assert duckdb.connect().execute("select 1 as a").df().a.tolist() == [1]
"""


def test_pandas_is_kept_out_until_it_is_let_in() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
