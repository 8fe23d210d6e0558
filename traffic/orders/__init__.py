"""Import of a shop's orders, from CSV or JSON Lines in the documented format or through a mapping of the shop's own.

`importing.py` has the order of the work; docs/how-to/import.md says what a user sees.
"""
