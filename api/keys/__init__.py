"""API keys: their form, where they are stored, and how a process knows them.

Belongs here: keys. Does not belong here: what a role may do (the routes say so).
"""
