"""The encoders on offer: formats, options, and what they refuse."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from rave_trio import errors
from rave_trio.frames import SurfaceDescriptor
from rave_trio.media._libav import describe_format
from rave_trio.media.containers import container_of
from rave_trio.media.encoders import (
    ENCODERS,
    EncoderSettings,
    check_encoder,
    choose_format,
    default_encoder,
    encoder_options,
)


@pytest.mark.parametrize(
    ("encoder", "source", "chosen"),
    [
        ("libx264", "yuv420p", "yuv420p"),
        ("libx264", "yuv444p10le", "yuv444p10le"),
        ("libx264", "yuvj420p", "yuvj420p"),
        ("libx264", "nv12", "nv12"),
        ("libx264", "p010le", "yuv420p10le"),
        ("libx264", "yuv420p12le", "yuv420p10le"),
        ("libx264", "rgb24", "yuv444p"),
        ("libx264", "gray", "gray"),
        ("libx264", "yuv410p", "yuv420p"),
        ("libx265", "yuv420p12le", "yuv420p12le"),
        ("libsvtav1", "yuv444p", "yuv420p"),
        ("libsvtav1", "yuv422p10le", "yuv420p10le"),
        ("ffv1", "yuv422p12le", "yuv422p12le"),
        ("ffv1", "yuv411p", "yuv411p"),
    ],
)
def test_the_format_nearest_to_the_sources_is_chosen(encoder, source, chosen):
    assert choose_format(encoder, describe_format(source)).name == chosen


def test_no_format_with_alpha_is_chosen_for_an_opaque_source():
    for encoder in ENCODERS:
        for source in ("yuv420p", "rgb24", "gray", "yuv444p16le"):
            assert not choose_format(encoder, describe_format(source)).has_alpha


def test_defaults_are_crf_17_and_medium_for_x264():
    assert dict(encoder_options(ENCODERS["libx264"], None, None)) == {"crf": "17", "preset": "medium"}


@pytest.mark.parametrize(
    ("output", "name"), [("o.mkv", "libx264"), ("o.MP4", "libx264"), ("o.webm", "libsvtav1"), ("o%03d.png", "png")]
)
def test_a_containers_default_encoder_is_one_it_can_hold(output, name):
    container = container_of(Path(output))
    assert container is not None
    assert default_encoder(container) == name


@pytest.mark.parametrize("name", ["libx264", "libx265", "libsvtav1"])
def test_every_preset_on_offer_is_one_the_encoder_takes(name):
    surface = SurfaceDescriptor(128, 96, describe_format("yuv420p"))
    spec = ENCODERS[name]
    for preset in (spec.presets[0], spec.default_preset, spec.presets[-1]):
        settings = EncoderSettings(name, encoder_options(spec, None, preset), surface, Fraction(25), Fraction(1, 25))
        check_encoder(settings)


def test_a_format_that_an_encoder_does_not_take_is_an_encode_error():
    surface = SurfaceDescriptor(128, 96, describe_format("yuv410p"))
    settings = EncoderSettings("libx264", (), surface, Fraction(25), Fraction(1, 25))
    with pytest.raises(errors.EncodeError, match="refuses 128x96 yuv410p"):
        check_encoder(settings)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("yuv420p", (8, 1, 1, False, False, False)),
        ("yuv422p10le", (10, 1, 0, False, False, False)),
        ("yuv444p12le", (12, 0, 0, False, False, False)),
        ("p010le", (10, 1, 1, False, False, False)),
        ("gray", (8, 0, 0, False, True, False)),
        ("gbrp", (8, 0, 0, True, False, False)),
        ("rgba", (8, 0, 0, True, False, True)),
        ("yuva420p", (8, 1, 1, False, False, True)),
    ],
)
def test_a_pixel_format_is_described_by_its_facts(name, facts):
    found = describe_format(name)
    assert facts == (
        found.bit_depth,
        found.chroma_shift_x,
        found.chroma_shift_y,
        found.is_rgb,
        found.is_grey,
        found.has_alpha,
    )
