"""A worker that has grown too large begins anew as the same process."""

from __future__ import annotations

import subprocess
import sys

from stack.upkeep.growth import is_too_large

PROGRAM = """
import os, sys
from stack.upkeep.growth import begin_anew
print(os.getpid(), flush=True)
begin_anew("timeit", "-n", "1", "-r", "1", "import os; print(os.getpid(), flush=True)")
"""


def test_the_limit_is_resident_memory() -> None:
    assert is_too_large(1) and not is_too_large(1_000_000)


def test_it_keeps_its_process_id() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    before, after, *_ = done.stdout.split()
    assert before == after
