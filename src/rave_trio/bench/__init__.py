"""Measuring on the user's machine: the pipeline beside its network, settings against one another, then and now.

Nothing here is loaded by a run.
"""
