"""Witnesses: each looks at one store and sees, at once, who wrote past the rules and what was lost.

Belongs here: one module per store, and the loop that they share. Does not belong here: comparing (`reconcile/`), and
what is done about a difference (`repair/`). A witness makes no break: it hands keys to the next comparison.
"""
