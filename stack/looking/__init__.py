"""What is known of the running system, as values for people and programs: the status, limits, orders, reports.

Belongs here: asking, and what the answers mean. Does not belong here: how they are shown (`cli/`), and changing
anything.
"""
