"""Runs to watch."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def long_clip(session_clip) -> Path:
    """Enough frames that a run is never over before it is stopped."""
    return session_clip("long.mkv", frames=3000, options={"preset": "ultrafast"})
