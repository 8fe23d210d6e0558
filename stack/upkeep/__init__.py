"""Keeping the system up: starting it, restarting what has ended, the workers, the routines, alerts to people.

Belongs here: what runs for as long as the system is up. Does not belong here: doing one thing once
(`stack/composition/`).
"""
