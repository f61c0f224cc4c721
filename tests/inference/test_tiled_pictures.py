"""A picture made in tiles is the picture made whole: no seam."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.inference.openvino_model import UNKNOWN_OVERLAP, Model

EXACT = 1e-5


def compact(net, scale):
    """Features at the input's size, an enlarged input, a resize after it: everything that shipped models do."""
    x = net.bend(net.conv(net.input, 3, 6), 6)
    x = net.shuffle(net.conv(net.bend(net.conv(x, 6, 6), 6), 6, 48), 4)
    x = net.op("Add", x, net.resize(net.input, 4, "nearest", "asymmetric"))
    return x if scale == 4 else net.resize(x, scale / 4, cubic_coeff_a=-0.75)


def strided(net):
    """Down by a strided convolution, up by a transposed one."""
    x = net.conv(net.input, 3, 6, strides=[2, 2], pads=[1, 1, 1, 1])
    weights = net.weights(6, 6, 4, 4)
    return net.shuffle(net.conv(net.op("ConvTranspose", x, weights, strides=[2, 2], pads=[1, 1, 1, 1]), 6, 12), 2)


def packed(net):
    """Blocks of 4 x 4 pixels become channels first, as in fast networks."""
    x = net.conv(net.op("SpaceToDepth", net.input, blocksize=4), 48, 12)
    return net.shuffle(net.conv(x, 12, 3 * 64), 8)


def pooled(net):
    x = net.op("MaxPool", net.conv(net.input, 3, 6), kernel_shape=[2, 2], strides=[2, 2])
    return net.resize(net.conv(net.resize(x, 2, "linear"), 6, 3), 2)


def padded(net):
    """Padding by reflection in front of convolutions that have none."""
    x = net.op("Pad", net.input, net.constant(np.array([0, 0, 2, 2, 0, 0, 2, 2])), mode="reflect")
    return net.shuffle(net.conv(net.bend(net.conv(x, 3, 6, pads=[0] * 4), 6), 6, 12, pads=[0] * 4), 2)


NETS = {
    "compact x4": lambda net: compact(net, 4),
    "compact x3": lambda net: compact(net, 3),
    "compact x2": lambda net: compact(net, 2),
    "strided": strided,
    "packed": packed,
    "pooled": pooled,
    "padded": padded,
}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize(("height", "width", "tile"), [(97, 131, 48), (60, 47, 40), (40, 150, 64)])
def test_tiles_give_what_the_whole_gives(graph, enlarge, noise, kind, height, width, tile):
    net = graph()
    model = net.model(NETS[kind](net))
    geometry = model.geometry(height, width, tile)
    assert geometry.tiles > 1
    assert geometry.seamless
    picture = noise(height, width)
    np.testing.assert_allclose(enlarge(model, picture, tile), enlarge(model, picture), rtol=0, atol=EXACT)


def test_a_shipped_model_in_tiles_gives_what_the_whole_gives(shipped, enlarge, noise):
    model, picture = shipped("animevideo-x2"), noise(75, 101)
    assert model.geometry(75, 101, 64).tiles == 6
    np.testing.assert_allclose(enlarge(model, picture, 64), enlarge(model, picture), rtol=0, atol=EXACT)


@pytest.mark.parametrize(("height", "width"), [(40, 56), (41, 57), (97, 131), (20, 131), (97, 20), (39, 55)])
def test_a_model_of_fixed_size_gives_what_one_of_free_size_gives(upscaler, enlarge, noise, height, width):
    fixed = Model("fixed", upscaler("fixed", size=(40, 56)))
    picture = noise(height, width)
    down, right = max(40 - height, 0), max(56 - width, 0)
    whole = enlarge(Model("free", upscaler("free")), np.pad(picture, ((0, 0), (0, down), (0, right)), mode="edge"))
    result = enlarge(fixed, picture)
    np.testing.assert_allclose(result, whole[:, : 2 * height, : 2 * width], rtol=0, atol=EXACT)


def test_a_fixed_size_wins_over_the_one_asked_for(upscaler):
    geometry = Model("fixed", upscaler(size=(40, 56))).geometry(97, 131, 30)
    assert (geometry.tile_height, geometry.tile_width) == (40, 56)


def test_tiles_are_never_larger_than_asked_for(graph):
    net = graph()
    geometry = net.model(packed(net)).geometry(200, 300, 67)
    assert (geometry.tile_height, geometry.tile_width, geometry.period) == (64, 64, 4)


def test_tiles_are_no_larger_than_the_frame_needs(upscaler):
    geometry = Model("free", upscaler()).geometry(30, 300, 64)
    assert (geometry.tile_height, geometry.tile_width) == (30, 64)


def test_one_channel_after_the_other_in_tiles(upscaler, enlarge, noise):
    model, picture = Model("grey", upscaler(channels=1)), noise(50, 70)
    np.testing.assert_allclose(enlarge(model, picture, 32), enlarge(model, picture), rtol=0, atol=EXACT)


def test_a_graph_that_cannot_be_followed_gets_a_fixed_overlap_and_says_so(graph):
    net = graph()
    attended = net.op("Mul", net.input, net.op("GlobalAveragePool", net.input))
    geometry = net.model(net.shuffle(net.conv(attended, 3, 12), 2)).geometry(200, 200, 100)
    assert (geometry.overlap, geometry.reach, geometry.seamless) == (UNKNOWN_OVERLAP, None, False)


def test_a_tile_too_small_for_the_overlap_is_refused_by_name(upscaler):
    model = Model("deep", upscaler(layers=6))
    with pytest.raises(errors.ModelUnsupported) as caught:
        model.geometry(100, 100, 12)
    assert str(caught.value) == "model deep looks 6 pixels far, too far for tiles of 12x12"
    assert "larger --tile" in caught.value.remedy


def test_a_deep_model_of_small_fixed_size_overlaps_as_far_as_there_is_room_and_says_so(upscaler, enlarge, noise):
    model = Model("deep", upscaler(layers=6, size=(12, 12)))
    geometry = model.geometry(40, 30, None)
    assert (geometry.overlap, geometry.reach, geometry.seamless) == (3, 6, False)
    assert enlarge(model, noise(40, 30)).shape == (3, 80, 60)


def test_a_deep_model_cut_for_want_of_memory_overlaps_as_far_as_there_is_room(upscaler):
    geometry = Model("deep", upscaler(layers=6)).geometry(100, 100, 12, seamless=False)
    assert (geometry.overlap, geometry.reach, geometry.seamless) == (3, 6, False)
