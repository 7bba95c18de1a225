"""The guided filter against the same written as loops, and what it is for: banks at the picture's edges."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from autosam.config import config_from_dict
from autosam.errors import ConfigError
from autosam.models.guided_filter import GREY, GuidedFilter
from autosam.models.methods import build_network

LOW, SIDE = 8, 32


def pictures(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator).float()


def logits(count: int = 2) -> torch.Tensor:
    return 3 * torch.randn(count, 1, LOW, LOW, generator=torch.Generator().manual_seed(1))


def by_loops(given: np.ndarray, levels: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """One picture: a line fitted in every window, the lines averaged, read at the fine grey."""
    guide = np.tensordot(GREY, levels / 255, axes=1)
    cell, (height, width) = SIDE // LOW, given.shape
    cells = guide.reshape(height, cell, width, cell)
    coarse, squared = cells.mean(axis=(1, 3)), (cells**2).mean(axis=(1, 3))
    lines = np.zeros((2, height, width))
    for y in range(height):
        for x in range(width):
            window = np.s_[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            grey, water = coarse[window].ravel(), given[window].ravel()
            variance = squared[window].mean() - grey.mean() ** 2
            slope = np.cov(grey, water, bias=True)[0, 1] / (variance + epsilon)
            lines[:, y, x] = slope, water.mean() - slope * grey.mean()
    averaged = np.zeros_like(lines)
    for y in range(height):
        for x in range(width):
            rows, columns = (slice(max(0, k - radius), k + radius + 1) for k in (y, x))
            averaged[:, y, x] = lines[:, rows, columns].mean(axis=(1, 2))
    down, along = (_between(count, cell) for count in (height, width))
    fine = np.einsum("yi,cij,xj->cyx", down, averaged, along)
    return fine[0] * guide + fine[1]


def _between(count: int, cell: int) -> np.ndarray:
    """(count * cell, count) weights of bilinear enlarging."""
    places = np.clip((np.arange(count * cell) + 0.5) / cell - 0.5, 0, count - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(count)))


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_it_is_the_filter_written_as_loops(radius: int):
    found = GuidedFilter(radius=radius, epsilon=1e-3)(logits(), pictures())
    assert found.shape == (2, 1, SIDE, SIDE)
    for one, given, levels in zip(found, logits(), pictures(), strict=True):
        expected = by_loops(given[0].double().numpy(), levels.double().numpy(), radius, 1e-3)
        np.testing.assert_allclose(one[0], expected, atol=2e-4)


def test_padding_says_nothing_of_the_picture_beside_it():
    levels, given = pictures(1), logits(1)
    cut = np.s_[..., :20, :]  # five rows of cells
    inside = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    inside[cut] = True
    once = GuidedFilter(radius=2, epsilon=1e-3)(given, levels, inside=inside)
    levels[..., 20:, :], given[..., 5:, :] = 7.0, 9.0
    again = GuidedFilter(radius=2, epsilon=1e-3)(given, levels, inside=inside)
    torch.testing.assert_close(again[cut], once[cut], atol=1e-4, rtol=0)
    assert again.isfinite().all()
    alone = by_loops(
        logits(1)[0, 0, :5].double().numpy(), pictures(1)[0, :, :20].double().numpy(), 2, 1e-3
    )
    np.testing.assert_allclose(
        once[0, 0, :18], alone[:18], atol=2e-4
    )  # beyond, it looks at a cell of padding


def test_a_bank_goes_to_the_edge_of_the_picture():
    levels = torch.full((1, 3, SIDE, SIDE), 180.0)
    levels[..., :13] = 60.0  # dark water ends inside a cell, which is 12 to 15
    given = torch.full((1, 1, LOW, LOW), -4.0)
    given[..., :3], given[..., 3] = 4.0, 0.5  # the cell with the edge is unsure
    plain = functional.interpolate(given, size=(SIDE, SIDE), mode="bilinear") > 0
    found = GuidedFilter(radius=2, epsilon=1e-4)(given, levels) > 0
    assert found[0, 0].sum(dim=1).eq(13).all()
    assert not plain[0, 0].sum(dim=1).eq(13).any()


@pytest.mark.parametrize(("contrast", "noise"), [(0.05, 0.1), (0.1, 0.2), (0.0, 0.1)])
def test_noise_within_cells_does_not_speckle_a_bank(contrast: float, noise: float):
    side, low = 256, 64
    grey = torch.full((side, side), 0.5)
    grey[:, : side // 2] -= contrast
    grey += noise * torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    levels = (255 * grey.clamp(0, 1)).round().expand(1, 3, side, side)
    given = torch.full((1, 1, low, low), -5.0)
    given[..., : low // 2] = 5.0
    water = GuidedFilter(radius=2, epsilon=3e-4)(given, levels)[0, 0] > 0
    truth = torch.zeros(side, side, dtype=torch.bool)
    truth[:, : side // 2] = True
    beside = slice(side // 2 - 16, side // 2 + 16)
    assert (water ^ truth)[:, beside].float().mean() < 0.03


def test_on_a_flat_picture_a_pattern_of_the_cells_is_averaged_away():
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(LOW // 2, LOW // 2)[None, None]
    flat = torch.full((1, 3, SIDE, SIDE), 90.0)
    found = GuidedFilter(radius=2, epsilon=1e-3)(pattern + 0.3, flat)
    inner = found[..., 12:20, 12:20]
    assert (inner - 0.3).abs().max() < 0.01
    even = GuidedFilter(radius=2, epsilon=1e-3)(torch.full_like(pattern, 0.7), pictures(1))
    assert (even - 0.7).abs().max() < 1e-3


def test_what_is_twice_as_sure_stays_twice_as_sure():
    once = GuidedFilter(radius=2, epsilon=1e-3)(logits(), pictures())
    twice = GuidedFilter(radius=2, epsilon=1e-3)(2 * logits() + 1, pictures())
    torch.testing.assert_close(twice, 2 * once + 1, atol=1e-4, rtol=0)


def test_a_configuration_without_it_builds_none():
    plain = build_network(config_from_dict({"method": "unet", "prompt": {"side": 32}}))
    assert plain.guided_filter is None
    refined = build_network(
        config_from_dict({"method": "unet", "prompt": {"side": 32}, "refine": {"radius": 3}})
    )
    assert refined.guided_filter == GuidedFilter(radius=3, epsilon=0.0003)
    assert plain.state_dict().keys() == refined.state_dict().keys()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"radius": -1}, "refine.radius must be in 0..32"),
        ({"epsilon": 0}, "refine.epsilon must be"),
    ],
)
def test_a_filter_that_is_none_is_refused(values: dict[str, float], said: str):
    with pytest.raises(ConfigError, match=said):
        config_from_dict({"refine": values})
