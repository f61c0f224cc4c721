"""What an operator sees of a run: health, numbers over time, a trace, a page; and who looks.

A run is watched, never steered from here: what cannot be written or served once it has begun is a note, not its end.
"""
