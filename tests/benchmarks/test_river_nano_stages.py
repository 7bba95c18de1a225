"""The stages that make river-nano: what is written is read again, averaged, and given a fair threshold."""

import pytest
import torch

from autosam.models.embedded import EMBEDDED_FOLDERS
from autosam.models.sam import load_sam
from benchmarks.river_nano.refine import averaged
from benchmarks.river_nano.small_sam import load_small_sam, save_small_sam

SHIPPED = EMBEDDED_FOLDERS["river-nano"] / "sam"


@pytest.fixture(scope="module")
def small_sam():
    return load_small_sam(SHIPPED).eval()


def test_the_small_sam_that_goes_on_training_is_the_one_that_was_shipped(small_sam):
    pixels = torch.randn((1, 3, 512, 512), generator=torch.Generator().manual_seed(0))
    shipped = load_sam("river-nano")
    with torch.no_grad():
        expected = shipped.embed(pixels)
        found = small_sam.embed(pixels)
        assert found.shape == expected.shape == (1, 256, 32, 32)
        assert torch.allclose(found, expected, atol=1e-4)
        mask = torch.randn((1, 1, 128, 128), generator=torch.Generator().manual_seed(1))
        logits, _ = small_sam.decode(
            found, points=torch.zeros((1, 0, 2)), labels=torch.zeros((1, 0), dtype=torch.long),
            boxes=None, mask=mask, multimask=False,
        )  # fmt: skip
        assert torch.allclose(
            logits, shipped.decode(expected, shipped.encode_masks(mask)), atol=1e-3
        )


def test_a_small_sam_is_written_as_it_was_read(small_sam, tmp_path):
    save_small_sam(small_sam, tmp_path)
    again = load_small_sam(tmp_path)
    for (name, before), after in zip(
        small_sam.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert name.startswith("water_head") or torch.equal(before, after), name


def test_averaging_lies_between_what_was_learnt_and_what_was_begun_with():
    after, before = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    learnt, begun = after.weight.detach().clone(), before.weight.detach().clone()
    averaged(after, before, 0.75)
    assert torch.allclose(after.weight, 0.75 * learnt + 0.25 * begun)
    averaged(after, before, 1.0)
    assert torch.allclose(after.weight, 0.75 * learnt + 0.25 * begun)
