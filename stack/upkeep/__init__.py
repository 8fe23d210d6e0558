"""What keeps the system up: starting and mending it, what workers do, what is done again and again, telling people.

Belongs here: what goes on for as long as the system runs. Does not belong here: doing one thing once
(`stack/composition/`).
"""
