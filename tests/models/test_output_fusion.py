"""Several masks a picture to one, against sums by hand and a SAM of transformers."""

from types import SimpleNamespace

import pytest
import torch
from transformers import SamModel

from autosam.errors import ConfigError, ModelError
from autosam.models.output_fusion import fuse_masks

LOGITS = torch.tensor([[1.0, 5.0, 100.0], [2.0, -4.0, 30.0]])[:, :, None, None, None].repeat(
    1, 1, 1, 2, 3
)
SCORES = torch.tensor([[0.2, 0.7, 0.9], [0.6, 0.1, 0.3]])[..., None]
OUTPUTS = SimpleNamespace(pred_masks=LOGITS, iou_scores=SCORES)
LABELS = torch.tensor([[1, 1, -10], [1, -10, -10]])[..., None]


@pytest.mark.parametrize(
    ("multi_mask", "labels", "expected"),
    [
        ("mean", None, [106 / 3, 28 / 3]),
        ("best", None, [100, 2]),
        ("mean", LABELS, [3, 2]),
        ("best", LABELS, [5, 2]),
    ],
)
def test_queries_of_padding_alone_never_enter(multi_mask, labels, expected):
    fused = fuse_masks(OUTPUTS, multi_mask, input_labels=labels)
    assert fused.shape == (2, 1, 2, 3)
    torch.testing.assert_close(
        fused, torch.tensor(expected, dtype=torch.float32)[:, None, None, None].expand(2, 1, 2, 3)
    )


def test_a_query_with_one_point_that_is_none_of_padding_enters():
    labels = torch.tensor([[[1, -10], [-10, 0], [-10, -10]]] * 2)
    torch.testing.assert_close(
        fuse_masks(OUTPUTS, input_labels=labels)[:, 0, 0, 0], torch.tensor([3.0, -1.0])
    )


def test_a_picture_with_padding_alone_keeps_the_mask_of_it(tiny_sam_folder):
    """As a tile without water: its queries are all equal, so any of them is the answer."""
    model = SamModel.from_pretrained(tiny_sam_folder).eval()
    labels = torch.tensor([[[-10], [-10]], [[1], [-10]]])
    points = torch.tensor([[[[0.0, 0.0]], [[0.0, 0.0]]], [[[20.0, 9.0]], [[0.0, 0.0]]]])
    with torch.no_grad():
        outputs = model(
            pixel_values=torch.randn(2, 3, 64, 64), input_points=points, input_labels=labels,
            multimask_output=False,
        )  # fmt: skip
    for multi_mask in ("mean", "best"):
        fused = fuse_masks(outputs, multi_mask, input_labels=labels)
        torch.testing.assert_close(fused, outputs.pred_masks[:, 0])


def test_what_padding_holds_reaches_neither_value_nor_gradient():
    logits = LOGITS.clone()
    logits[0, 2], logits[1, 1:] = torch.nan, torch.inf
    logits.requires_grad_(True)
    outputs = SimpleNamespace(pred_masks=logits, iou_scores=SCORES)
    fused = fuse_masks(outputs, input_labels=LABELS)
    fused.sum().backward()
    assert fused.isfinite().all()
    by_query = logits.grad.flatten(start_dim=2).sum(dim=2)
    torch.testing.assert_close(by_query, torch.tensor([[3.0, 3.0, 0.0], [6.0, 0.0, 0.0]]))


def test_what_is_no_output_of_one_mask_a_query_is_refused():
    three = SimpleNamespace(pred_masks=LOGITS.repeat(1, 1, 3, 1, 1), iou_scores=SCORES)
    with pytest.raises(ModelError, match=r"got \(2, 3, 3, 2, 3\). Call the model with multimask"):
        fuse_masks(three)
    with pytest.raises(ModelError, match=r"input_labels must be .* \(2, 3\), got \(2, 2, 1\)"):
        fuse_masks(OUTPUTS, input_labels=LABELS[:, :2])
    with pytest.raises(ConfigError, match="must be 'mean' or 'best', got 'first'"):
        fuse_masks(OUTPUTS, "first")
