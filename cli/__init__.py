"""The `tieout` command, above everything: what can be asked and done from a shell, and how answers look there.

Belongs here: options, questions, what is printed, exit codes; the commands themselves are in `commands/`, a module per
topic. Does not belong here: the work, and what is known (`stack/`), which other programs use without a terminal.
"""

# Before anything else is imported: what is set there holds only if DuckDB is loaded later.
import stack as stack
