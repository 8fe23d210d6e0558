"""The commands of `tieout`, a module each, as `stack/cli.py` puts them together, and how answers look.

Belongs here: options, and showing what came of it. Does not belong here: doing the work.
"""
