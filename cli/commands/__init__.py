"""The commands of `tieout`, a module per topic, as `cli/app.py` puts them together.

Belongs here: options, and showing the results. Does not belong here: doing the work (`stack/`).
"""
