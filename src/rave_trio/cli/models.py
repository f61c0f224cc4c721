"""``rave-trio models``: what is shipped."""

from __future__ import annotations

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

DEFAULT_COMMON = Common()


def models(*, common: Common = DEFAULT_COMMON) -> Output:
    """List the shipped models.

    Any ONNX file that maps NCHW RGB in [0, 1] to an integer multiple of its size works too.
    """
    import attrs

    from rave_trio.inference.catalogue import catalogue

    common.start_logging()
    shipped = list(catalogue().values())
    rows = [(m.name, f"x{m.scale}  {m.architecture}  {m.licence}  {m.source}") for m in shipped]
    return Output({"models": [{**attrs.asdict(m), "path": str(m.path)} for m in shipped]}, table(rows))
