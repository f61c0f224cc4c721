"""The application: commands, configuration sources, and the one place where results and errors are printed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cyclopts import App, ArgumentCollection, CycloptsError, Token
from cyclopts.config import Dict, Env, Toml

from rave_trio import __version__, errors
from rave_trio.cli import (
    audit,
    benchmark,
    compare,
    completion,
    devices,
    fingerprint,
    graph,
    image,
    models,
    plan,
    probe,
    selftest,
    upscale,
    validate,
)
from rave_trio.cli.flags import Output
from rave_trio.cli.logs import stop_logging
from rave_trio.cli.render import put, say
from rave_trio.profiles import DEFAULT as NO_PROFILE
from rave_trio.profiles import ProfilePreset, profile_named

SCHEMA_VERSION = 1

TABLE = "upscale"
"""The one table of a configuration file."""

EPILOGUE = """\
**Configuration** comes from the flag, else its variable (`RAVE_TRIO_CRF` for `--crf`), else, for upscale, plan and
graph show, the table `[upscale]` of a TOML file (`--config`, else `./rave-trio.toml`, else
`~/.config/rave-trio/config.toml`) and then the `--profile`, else the default.

**Exit status**: 0 done; 1 compare found differences, selftest a failure, or audit a promise that does not hold, or a
fixture of validate does not hold; 2 usage; 10-19 the input; 20-29 the output; 30-39 the model; 40-49 the device; 50-59
a fault of rave-trio; 60-69 watching the run; 70-79 its contract; 130 stopped by a signal, what was finished is kept as
`OUT.partial.mkv`.
"""


def build_app(config_file: Path | None, profile: ProfilePreset = NO_PROFILE) -> App:
    """The application, reading defaults from the environment and, for the commands that run a job, from a file.

    What ``profile`` has comes last.
    """
    env = Env("RAVE_TRIO_", command=False)
    upscale_sources: list[Any] = [env]
    plan_sources: list[Any] = [env]
    if config_file is not None:
        upscale_sources.append(Toml(config_file, root_keys=TABLE, use_commands_as_keys=False, must_exist=True))
        # The same options, but for those that have no meaning without a run.
        plan_sources.append(Toml(config_file, root_keys=TABLE, use_commands_as_keys=False, allow_unknown=True))
    upscale_sources += [Dict(dict(profile.options), use_commands_as_keys=False), _count]
    plan_sources += [Dict(dict(profile.options), use_commands_as_keys=False, allow_unknown=True), _count]
    app = App(
        name="rave-trio",
        help="Upscale video with a neural network: every frame once, at its own time, with everything around it.",
        help_format="markdown",
        help_epilogue=EPILOGUE,
        version=f"rave-trio {__version__}",
        config=[env, _count],
    )
    app.command(upscale.upscale, config=upscale_sources)
    app.command(plan.plan, config=plan_sources)
    app.command(graph.app(plan_sources))
    app.command(benchmark.app(plan_sources))
    app.command(image.image)
    app.command(probe.probe)
    app.command(compare.compare)
    app.command(models.models)
    app.command(devices.devices)
    app.command(fingerprint.fingerprint)
    app.command(selftest.selftest)
    app.command(audit.audit)
    app.command(validate.validate)
    app.command(completion.completion(app))
    return app


def _count(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Flags that are counted: a number from a variable, a file or a profile says how often, which cyclopts ignores."""
    for argument in arguments:
        if argument.parameter.count:
            argument.tokens = [
                token if isinstance(token.implicit_value, int) else token.evolve(implicit_value=_number(token))
                for token in argument.tokens
            ]


def _number(token: Token) -> int:
    try:
        return int(token.value)
    except ValueError:
        raise errors.UsageError(f"{token.keyword or 'verbose'} must be a whole number, not {token.value!r}") from None


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.  Prints one summary or one JSON object on stdout."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        with _ended_as_by_ctrl_c():
            return _run(tokens)
    finally:
        stop_logging()


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Signals that end the process do what Ctrl+C does, so that no command leaves what it made for itself.

    Those that whoever started it had ignored stay so.  ``upscale`` heeds them by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if deaf:  # blocked from here on, since Trio knows where it may interrupt only if Python's own handler is there
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in ending:
        signal.signal(each, _interrupt)
    try:
        yield
    finally:
        for each in ending:
            signal.signal(each, signal.SIG_DFL)
        if deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _interrupt(_number: int, frame: FrameType | None) -> None:
    heed = signal.getsignal(signal.SIGINT)
    if callable(heed):
        heed(signal.SIGINT, frame)


def _command(tokens: Sequence[str]) -> str | None:
    """The word that names the command: the first, or behind flags the first that is one."""
    if not tokens or not tokens[0].startswith("-"):
        return next(iter(tokens), None)
    commands = set(build_app(None))
    return next((token for token in tokens if token in commands and not token.startswith("-")), None)


def _run(tokens: list[str]) -> int:
    command = _command(tokens)
    as_json = "--json" in tokens
    try:
        config_file = find_config(tokens)
        app = build_app(config_file, profile_named(_profile_name(tokens, config_file)))
        call, bound, _ = app.parse_args(tokens, print_error=False, exit_on_error=False)
        as_json = as_json or getattr(bound.arguments.get("common"), "json", False)
        result = call(*bound.args, **bound.kwargs)
        if isinstance(result, Output):
            put(_document(command, True, result.data) if as_json else result.text)
            return result.status
    except CycloptsError as error:
        if command is not None and command != tokens[0]:
            late = errors.UsageError(f"{tokens[0]} stands before the command", remedy=f"begin with rave-trio {command}")
            return _fail(late, command, as_json)
        return _fail(errors.UsageError(str(error)), command, as_json)
    except errors.RaveError as error:
        return _fail(error, command, as_json)
    except KeyboardInterrupt:
        return _fail(errors.Stopped("stopped"), command, as_json)
    except Exception as error:
        logging.getLogger("rave_trio").debug("unexpected error", exc_info=True)
        return _fail(errors.StageCrashed(f"{type(error).__name__}: {error}"), command, as_json)
    return 0


def find_config(tokens: Sequence[str]) -> Path | None:
    """The configuration file to read: --config, RAVE_TRIO_CONFIG, ./rave-trio.toml or the user's own, in that order."""
    named = _flag_value(tokens, "--config") or os.environ.get("RAVE_TRIO_CONFIG")
    if named:
        if not Path(named).is_file():
            raise errors.UsageError(f"there is no configuration file {named}", remedy="check --config")
        return _well_formed(Path(named))
    places = [Path("rave-trio.toml")]
    with contextlib.suppress(RuntimeError):  # there may be no home folder
        places.append(Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "rave-trio" / "config.toml")
    for path in places:
        with contextlib.suppress(OSError):  # what may not be looked at is not there
            if path.is_file():
                return _well_formed(path)
    return None


def _profile_name(tokens: Sequence[str], config_file: Path | None) -> str | None:
    """The profile's name: it decides where the others' defaults come from, so it is looked for first."""
    name = _flag_value(tokens, "--profile") or os.environ.get("RAVE_TRIO_PROFILE")
    if name is None and config_file is not None:
        name = tomllib.loads(config_file.read_text()).get(TABLE, {}).get("profile")
    return name


def _well_formed(path: Path) -> Path:
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"{path} is not a TOML file: {error}", remedy="correct the file") from error
    if strange := sorted(tables.keys() - {TABLE}):
        raise errors.UsageError(
            f"{path} has {', '.join(strange)} at its top level", remedy=f"put options into the table [{TABLE}]"
        )
    table = tables.get(TABLE, {})
    if not isinstance(table, dict):
        raise errors.UsageError(f"{path}: {TABLE} is no table", remedy=f"write [{TABLE}] above the options")
    if nested := sorted(name for name, value in table.items() if isinstance(value, dict)):
        raise errors.UsageError(
            f"{path}: {nested[0]} is a table", remedy=f"give {nested[0]} the value that its flag takes"
        )
    return path


def _flag_value(tokens: Sequence[str], flag: str) -> str | None:
    """The value of ``flag`` in ``tokens``: it decides where the others' defaults come from, so it is read first."""
    for at, token in enumerate(tokens):
        if token == flag and at + 1 < len(tokens):
            return tokens[at + 1]
        if token.startswith(f"{flag}="):
            return token.partition("=")[2]
    return None


def _fail(error: errors.RaveError, command: str | None, as_json: bool) -> int:
    if as_json:
        with contextlib.suppress(errors.OutputNotWritable):
            put(_document(command, False, {"error": error.as_dict()}))
    else:
        where = "" if error.frame is None or error.stage is None else f" [{error.stage}, frame {error.frame}]"
        label = "" if isinstance(error, errors.Stopped) else f"error{where}: "
        remedy = f" ({error.remedy})" if error.remedy else ""
        say(f"rave-trio: {label}{error}{remedy}")
    return error.exit_code


def _document(command: str | None, ok: bool, body: dict[str, Any]) -> str:
    return json.dumps({"schema_version": SCHEMA_VERSION, "command": command, "ok": ok, **body}, default=str)
