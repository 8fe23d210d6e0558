"""The composition root of Dagster: definitions, jobs, schedules and sensors.

Belongs here: what puts assets and checks together and decides when they run. Does not belong here: assets themselves.
"""
