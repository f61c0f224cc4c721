"""Progress on stderr: a bar for people, JSON lines for programs, or nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Protocol

from rave_trio.cli.render import say
from rave_trio.plan import EnginePlan
from rave_trio.progress import Progress


class Shown(Protocol):
    """What a display is told.  All of it happens in the Trio thread."""

    def plan(self, plan: EnginePlan) -> None: ...

    def update(self, progress: Progress) -> None: ...

    def stopping(self, again: bool) -> None: ...


@contextlib.contextmanager
def open_progress(kind: str) -> Iterator[Shown]:
    """The display of that kind: ``bar``, ``jsonl`` or ``off``."""
    match kind:
        case "bar":
            bar = _Bar()
            with bar.progress:
                yield bar
        case "jsonl":
            yield _JsonLines()
        case _:
            yield _Silent()


class _Silent:
    """Only what must be said: what will not be as the user may expect."""

    def plan(self, plan: EnginePlan) -> None:
        for note in plan.notes:
            say(f"rave-trio: note: {note}")

    def update(self, progress: Progress) -> None:
        pass

    def stopping(self, again: bool) -> None:
        say(
            "rave-trio: stopping at once"
            if again
            else "rave-trio: finishing what is in flight; once more stops at once"
        )


class _JsonLines:
    def plan(self, plan: EnginePlan) -> None:
        self._emit("plan", plan=plan.as_dict())

    def update(self, progress: Progress) -> None:
        self._emit(
            "progress",
            phase=progress.phase,
            done=progress.done,
            total=progress.total,
            fps=progress.fps,
            eta=progress.eta,
            queues={channel.name: channel.depth for channel in progress.metrics.channels},
        )

    def stopping(self, again: bool) -> None:
        self._emit("stopping", at_once=again)

    def _emit(self, event: str, **fields: Any) -> None:
        say(json.dumps({"event": event, **fields}, default=str))


class _Bar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self.progress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]} fps"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[eta]}"),
            TextColumn("[dim]queues {task.fields[queues]}"),
            console=Console(stderr=True),
        )
        self._task = self.progress.add_task("planning", total=None, fps="-", eta="-", queues="-")

    def plan(self, plan: EnginePlan) -> None:
        source, target = plan.media.video.surface, plan.encoder.surface
        self.progress.console.print(
            f"{plan.media.path.name}: {source.width}x{source.height} -> {target.width}x{target.height}, "
            f"{', '.join([*(model.name for model in plan.models), plan.precision, plan.encoder.encoder])}",
            highlight=False,
        )
        for note in plan.notes:
            self.progress.console.print(f"note: {note}", style="yellow", highlight=False)

    def update(self, progress: Progress) -> None:
        eta = progress.eta
        self.progress.update(
            self._task,
            description="upscaling" if progress.phase == "upscale" else "publishing",
            completed=progress.done,
            total=progress.total,
            fps=f"{progress.fps:.2f}",
            eta="-" if eta is None else _clock(eta),
            queues="/".join(str(channel.depth) for channel in progress.metrics.channels),
        )

    def stopping(self, again: bool) -> None:
        text = "stopping at once" if again else "finishing what is in flight; once more stops at once"
        self.progress.console.print(text, style="yellow")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
