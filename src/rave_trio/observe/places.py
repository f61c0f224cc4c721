"""Where a trace and a report go: refused before anything runs if they could not."""

from __future__ import annotations

from rave_trio import errors
from rave_trio.files import check_place, is_same
from rave_trio.options import UpscaleOptions

REPORT_ENDINGS = (".html", ".json")


def check_places(options: UpscaleOptions) -> None:
    """Raise the OutputError that fits if the trace or the report could not be put where it should go."""
    taken = [("the input", options.input), ("the output", options.output)]
    for what, path in (("trace", options.trace), ("report", options.report)):
        if path is None:
            continue
        if what == "report" and path.suffix.lower() not in REPORT_ENDINGS:
            raise errors.UsageError(
                f"a report cannot be made as {path.name}",
                remedy=f"name a file that ends in {' or '.join(REPORT_ENDINGS)}",
            )
        for other, there in taken:
            if is_same(path, there):
                kind = errors.OutputIsInput if there is options.input else errors.UsageError
                raise kind(f"--{what} names {other} itself, {path}", remedy="give it another name")
        check_place(path, overwrite=options.overwrite)
        taken.append((f"the {what}", path))
