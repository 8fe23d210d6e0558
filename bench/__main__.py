"""Runs all benchmarks one after the other, each in its own process: ``make bench`` (``ARGS=--quick``: quick run)."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

BENCHES: dict[str, tuple[str, ...]] = {
    "place_order": ("--orders", "100", "--rounds", "1"),
    "relay": ("--events", "50000", "--samples", "100"),
    "derived": ("--orders", "2000"),
    "refused": ("--orders", "1000"),
    "commands": ("--seconds", "3"),
    "hot_stock": ("--seconds", "2", "--rounds", "1"),
    "import_rows": ("--rows", "2000"),
    "visibility": ("--samples", "50"),
    "compare": ("--orders", "100000", "--rounds", "1"),
    "compare_changes": ("--orders", "20000", "40000", "--rounds", "1"),
    "soak": ("--seconds", "20", "--rate", "10"),
    "undisturbed": ("--rest", "20", "--seconds", "60"),
    "repairs": ("--orders", "200", "--only", "rows"),
    "serving": ("--orders", "200", "--reads", "500", "--cases", "0"),
    "serving_load": ("--seconds", "5", "--rounds", "1"),
    "serving_search": ("--products", "2000", "--searches", "200", "--rounds", "1"),
    "serving_cache": ("--reads", "500", "--readers", "50"),
    "warehouse": ("--events", "2000", "--rounds", "2"),
}
"""By module name: the arguments for a quick run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen benchmarks; return 0 when every goal is met, 1 when a goal is missed or a benchmark failed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("only", nargs="*", help=f"which of {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes: faster, and the figures are rough")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of tables")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.only) - set(BENCHES))
    if unknown:
        parser.error(f"there is no measurement {unknown[0]!r}; there are {', '.join(BENCHES)}")
    codes = [_run(name, is_quick=options.quick, is_json=options.json) for name in options.only or BENCHES]
    return max(codes)


def _run(name: str, *, is_quick: bool, is_json: bool) -> int:
    if not is_json:
        print(f"\n{name}", flush=True)
    command = [
        sys.executable,
        "-m",
        f"bench.{name}",
        *(BENCHES[name] if is_quick else ()),
        *(["--json"] if is_json else []),
    ]
    return min(1, abs(subprocess.run(command, check=False).returncode))


if __name__ == "__main__":
    sys.exit(main())
