"""What is read before a plan is made: what outbox, log, lake, OLTP and views hold of what differs.

Belongs here: reading evidence. Does not belong here: deciding from it (`repair/plan.py`), changing anything.
"""
