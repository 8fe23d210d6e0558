"""Documentation, and the generator of those parts of it that come from code."""
