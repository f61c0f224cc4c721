"""The log of a command: how much of it, in which form, and where it goes.

The library logs through ``logging`` under the name ``rave_trio`` and prints nothing; this is what shows it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from pathlib import Path
from typing import Any

from rave_trio.errors import UsageError
from rave_trio.observe.calls import LEVEL as CALLS

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG, CALLS)
"""By how often -v is given."""

NAMES = {CALLS: "trace"}

PLAIN = frozenset(vars(logging.makeLogRecord({})))
"""What every record has; anything else was said with it."""


def start_logging(verbosity: int, form: str, file: Path | None) -> None:
    """Send the library's records to ``file``, or to stderr, until :func:`stop_logging`."""
    try:
        handler = logging.FileHandler(file) if file else logging.StreamHandler()
    except OSError as error:
        raise UsageError(f"cannot write the log {file}: {error.strerror}") from error
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    handler.setFormatter(_Json() if form == "json" else _Text())
    level = LEVELS[min(verbosity, len(LEVELS) - 1)]
    logger = logging.getLogger("rave_trio")
    logger.addHandler(handler)
    logger.propagate = False  # a library's basicConfig would print everything a second time
    logger.setLevel(min(level, logging.INFO) if file else level)


def stop_logging() -> None:
    """Undo every :func:`start_logging`."""
    logger = logging.getLogger("rave_trio")
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    for handler in logger.handlers[:]:
        if isinstance(handler.formatter, _Form):
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):
                handler.close()


class _Form(logging.Formatter):
    """A record as keys and values: time (UTC), level, logger, message, what was said with it, and a traceback."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": NAMES.get(record.levelno, record.levelname.lower()),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in PLAIN},
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return fields


class _Json(_Form):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record), default=str)


class _Text(_Form):
    """key=value, the value quoted as in JSON where it is not one word; a traceback follows in lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        traceback = fields.pop("traceback", None)
        line = " ".join(f"{key}={_word(value)}" for key, value in fields.items())
        return line if traceback is None else f"{line}\n{traceback}"


def _word(value: Any) -> str:
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "=\\')
    return text if text and plain else json.dumps(text, ensure_ascii=False)
