"""Which orders of stages there are, and that a refusal says where and what to change."""

from __future__ import annotations

import re

import pytest

from rave_trio import errors
from rave_trio.graph import DecodeStage, DeinterlaceStage, EncodeStage, EnhanceStage, ResizeStage, StageGraph

DECODE, WEAVE, X2, FULL_HD, ENCODE = (
    DecodeStage(),
    DeinterlaceStage(),
    EnhanceStage(scale=2),
    ResizeStage(width=1920, height=1080),
    EncodeStage(),
)


@pytest.mark.parametrize(
    "middle",
    [
        [X2],
        [FULL_HD],
        [WEAVE, X2],
        [EnhanceStage(scale=1), X2],
        [X2, FULL_HD],
        [FULL_HD, X2],
        [FULL_HD, X2, FULL_HD],
        [EnhanceStage(precision="fp32"), X2, EnhanceStage(precision="fp32")],
    ],
)
def test_orders_that_make_sense_are_graphs(middle):
    graph = StageGraph([DECODE, *middle, ENCODE])
    assert graph.stages == (DECODE, *middle, ENCODE)
    assert list(graph.steps.values()) == [stage for stage in middle if stage is not WEAVE]


@pytest.mark.parametrize(
    ("stages", "where", "remedy"),
    [
        ([], "stages is empty", "list decode"),
        ([X2, ENCODE], r"stages\[0\] is enhance", "begin with one decode"),
        ([DECODE, DECODE, X2, ENCODE], r"stages\[1\] is decode", r"take stages\[1\] away"),
        ([DECODE, X2], r"stages\[1\] is enhance", "end with one encode"),
        ([DECODE, ENCODE, X2, ENCODE], r"stages\[1\] is encode", "end with one encode"),
        ([DECODE, X2, WEAVE, ENCODE], r"stages\[2\] is deinterlace after enhance", "right after decode"),
        ([DECODE, WEAVE, WEAVE, X2, ENCODE], r"stages\[2\] is deinterlace after deinterlace", "once"),
        ([DECODE, ENCODE], "neither enhance nor resize", "add one"),
        ([DECODE, WEAVE, ENCODE], "neither enhance nor resize", "add one"),
        ([DECODE, ResizeStage(), ENCODE], r"stages\[1\] resizes to no size", r"set stages\[1\].width"),
        ([DECODE, FULL_HD, FULL_HD, ENCODE], r"stages\[2\] resizes what stages\[1\]", "keep one"),
        (
            [DECODE, EnhanceStage(precision="fp32"), X2, EnhanceStage(precision="bf16"), ENCODE],
            r"stages\[3\].precision is bf16, and stages\[1\].precision is fp32",
            "the same in both",
        ),
    ],
)
def test_orders_that_make_none_are_refused_with_the_place_and_what_to_change(stages, where, remedy):
    with pytest.raises(errors.GraphError, match=where) as caught:
        StageGraph(stages)
    assert re.search(remedy, caught.value.remedy)


def test_a_version_that_is_not_known_is_refused():
    with pytest.raises(errors.GraphError, match="graph_schema_version is 2"):
        StageGraph([DECODE, X2, ENCODE], graph_schema_version=2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EnhanceStage(scale=0), "scale must be at least 1, not 0"),
        (lambda: EnhanceStage(scale=True), "scale must be a whole number"),
        (lambda: EnhanceStage(precision="fp64"), "precision must be one of auto, fp32, bf16, fp16"),
        (lambda: ResizeStage(width=-1), "width must be at least 1"),
        (lambda: DecodeStage(strict="yes"), "strict must be true or false"),
        (lambda: DecodeStage(frame_rate="soon"), "no frame rate"),
        (lambda: EncodeStage(codec=""), "codec must be text"),
        (lambda: DeinterlaceStage(mode="off"), "mode must be one of auto, bwdif"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(make, said):
    with pytest.raises(errors.UsageError, match=said):
        make()


def test_what_is_left_open_is_filled_and_what_is_said_stays():
    graph = StageGraph([DECODE, EnhanceStage(precision="bf16"), EnhanceStage(), EncodeStage(crf=20)])
    filled = graph.filled({"precision": "bf16", "crf": 10, "effort": "high", "strict": True, "progress": "off"})
    assert filled.stages == (
        DecodeStage(strict=True),
        EnhanceStage(precision="bf16"),
        EnhanceStage(precision="bf16"),
        EncodeStage(crf=20, effort="high"),
    )
