"""``rave-trio models``: what is shipped."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

if TYPE_CHECKING:
    from rave_trio.inference.catalogue import CatalogueModel

DEFAULT_COMMON = Common()


def models(*, common: Common = DEFAULT_COMMON) -> Output:
    """List the shipped models, and which of them our own kernels can compute on a GPU.

    Any ONNX file that maps NCHW RGB in [0, 1] to an integer multiple of its size works too.
    """
    import attrs

    from rave_trio.inference.catalogue import catalogue

    common.start_logging()
    shipped = [(model, _is_compact(model)) for model in catalogue().values()]
    rows = [
        (m.name, f"x{m.scale}  {m.architecture}{' (own kernels on a GPU)' if ours else ''}  {m.licence}  {m.source}")
        for m, ours in shipped
    ]
    data = [{**attrs.asdict(model), "path": str(model.path), "compact": ours} for model, ours in shipped]
    return Output({"models": data}, table(rows))


def _is_compact(model: CatalogueModel) -> bool | None:
    """Whether the file is a network of the Compact family; None where the package that reads it is not installed."""
    if importlib.util.find_spec("onnx") is None:
        return None
    from rave_trio.inference.compact.find import find_compact
    from rave_trio.inference.compact.graph import NotCompact

    try:
        find_compact(model.path)
    except NotCompact:
        return False
    return True
