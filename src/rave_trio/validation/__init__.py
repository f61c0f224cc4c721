"""Fixtures: jobs as files, with what has to come of them.  ``rave-trio validate``."""

from rave_trio.validation.fixture import Fixture, read_fixture
from rave_trio.validation.judge import Outcome, judge
from rave_trio.validation.update import updated
from rave_trio.validation.validate import Validation, validate

__all__ = ["Fixture", "Outcome", "Validation", "judge", "read_fixture", "updated", "validate"]
