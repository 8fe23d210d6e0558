"""What the commands have in common: the option `--json`, and the exit codes.

Belongs here: what several commands must do alike. Does not belong here: asking before something is done
(`cli/confirming.py`), how answers look (`cli/console.py`).
"""

from __future__ import annotations

from typing import Annotated

import typer

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130

AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON document, for programs.")]
