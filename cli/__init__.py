"""The `tieout` command: its options, the questions that it asks, its output and its exit codes.

Belongs here: options, questions, what is printed, exit codes; the commands themselves are in `commands/`, a module per
topic. Does not belong here: the work, and reading how everything stands (`stack/`): other programs use these without a
terminal.
"""

# This must be the first import: it sets an environment variable that DuckDB reads when it is loaded.
import stack as stack
