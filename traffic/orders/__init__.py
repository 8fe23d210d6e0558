"""Import of a shop's orders from CSV or JSON Lines, in the documented format or through the shop's own mapping.

Start reading at `importing.py`, which runs the steps; docs/how-to/import.md describes the import for users.
"""
