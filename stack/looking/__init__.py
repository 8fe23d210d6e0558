"""Reading the running system, as values for people and programs: the status, limits, orders, reports.

Belongs here: queries, and what their answers mean. Does not belong here: how they are shown (`cli/`), and any change of
data.
"""
