"""The endpoints to which merchants want their events sent: registering and changing them.

Belongs here: the endpoints and who owns them. Does not belong here: sending (`derived/webhooks/`).
"""
