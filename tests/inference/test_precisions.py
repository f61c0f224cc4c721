"""Which precision a model runs in, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.color import SurfaceToTensor
from rave_trio.inference import openvino_model, openvino_runtime
from rave_trio.inference.openvino_runtime import choose_precision, native_precisions
from rave_trio.media.decoder import LibavDecoder
from rave_trio.media.probe import probe

needs_bf16 = pytest.mark.skipif("bf16" not in native_precisions(), reason="this CPU does not compute bf16 natively")

MODELS = ["animevideo-x2", "animevideo-x3", "animevideo-x4"]


@pytest.fixture
def native(monkeypatch):
    """Pretend that the CPU computes these precisions."""
    return lambda *precisions: monkeypatch.setattr(openvino_runtime, "native_precisions", lambda: precisions)


@pytest.fixture
def picture(bunny, pool) -> np.ndarray:
    """A part of the first frame of the real clip, 3 x 96 x 160."""
    media = probe(bunny)
    decoder = LibavDecoder(media)
    read = decoder.read()
    assert read is not None
    converted = SurfaceToTensor(media.video.surface, pool).convert(read)
    part = converted.tensor[:, 40:136, 80:240].copy()
    converted.close()
    decoder.close()
    return part


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of pictures in [0, 1] rounded to 8 bits, in dB."""
    error = np.mean((np.rint(255 * a.clip(0, 1)) - np.rint(255 * b.clip(0, 1))) ** 2)
    return float(10 * np.log10(255**2 / error))


class TestChoice:
    @pytest.mark.parametrize(
        ("precisions", "chosen"),
        [
            (("bf16", "fp32"), "bf16"),
            (("bf16", "fp16", "fp32"), "bf16"),
            (("fp32",), "fp32"),
            (("fp16", "fp32"), "fp32"),
        ],
    )
    def test_auto_is_bf16_where_it_is_native_and_else_fp32(self, native, precisions, chosen):
        native(*precisions)
        assert choose_precision("auto") == chosen

    @pytest.mark.parametrize("asked", ["bf16", "fp16", "fp32"])
    def test_a_native_one_is_taken_as_asked(self, native, asked):
        native("bf16", "fp16", "fp32")
        assert choose_precision(asked) == asked

    def test_one_that_would_be_emulated_is_refused_with_the_native_ones_named(self, native):
        native("bf16", "fp32")
        with pytest.raises(errors.PrecisionUnsupported) as caught:
            choose_precision("fp16")
        assert str(caught.value) == "this CPU does not compute fp16 natively, only bf16 and fp32"
        assert caught.value.remedy == "use --precision bf16 or fp32"

    @pytest.mark.parametrize(
        ("capabilities", "expected"),
        [
            (["FP32", "INT8", "BIN"], ("fp32",)),
            (["BF16", "FP32", "INT8"], ("bf16", "fp32")),
            (["FP32", "FP16", "BF16"], ("bf16", "fp16", "fp32")),
        ],
    )
    def test_native_is_what_openvino_says_of_the_cpu(self, monkeypatch, capabilities, expected):
        class Core:
            def get_property(self, device, name):
                assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
                return capabilities

        monkeypatch.setattr(openvino_runtime, "core", Core)
        assert native_precisions() == expected

    def test_fp32_is_always_native(self):
        assert "fp32" in native_precisions()


class TestQuality:
    @needs_bf16
    @pytest.mark.parametrize("name", MODELS)
    def test_bf16_is_within_50_db_of_fp32_on_a_real_frame(self, shipped, enlarge, picture, name):
        model = shipped(name)
        assert psnr(enlarge(model, picture, precision="bf16"), enlarge(model, picture)) >= 50

    @needs_bf16
    @pytest.mark.parametrize("name", MODELS[:2])
    def test_rewritten_resizes_bring_bf16_nearer_to_fp32(self, shipped, enlarge, picture, monkeypatch, name):
        model = shipped(name)
        rewritten = enlarge(model, picture, precision="bf16")
        monkeypatch.setattr(openvino_model, "rewrite_resizes", lambda model, precision: None)
        exact = enlarge(model, picture)
        assert psnr(rewritten, exact) > psnr(enlarge(model, picture, precision="bf16"), exact) + 0.5

    def test_the_same_picture_gives_the_same_bytes(self, shipped, enlarge, picture):
        model = shipped("animevideo-x2")
        np.testing.assert_array_equal(enlarge(model, picture), enlarge(model, picture))
