"""Prompts that a person, a coarse mask or a prompt network might give, made from the target: on the decoder's
grid, for all objects at once.

Source: simulated interaction after SAM, arXiv 2304.02643, appendix A.
"""

import torch
from torch import Tensor
from torch.nn import functional

FARTHEST_LOGIT = 12.0


def sampled_clicks(error: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One pixel of each area, more likely from its inside.

    Args:
        error: (objects, 1, low, low) bool.
        generator: Of the choice.

    Returns:
        (objects, 2) indices (x, y) on the grid, and (objects,) False where the area was empty.
    """
    weight = error.float()
    inside = functional.avg_pool2d(weight, 5, stride=1, padding=2) > 0.95
    weight = weight * (1e-3 + inside.float())
    low = error.shape[-1]
    flat = weight.flatten(1)
    found = flat.sum(dim=1) > 0
    chosen = torch.multinomial(flat + (~found[:, None]).float(), 1, generator=generator)[:, 0]
    return torch.stack([chosen % low, chosen // low], dim=1), found


def boxes_of(target: Tensor, generator: torch.Generator, *, jitter: float = 0.1) -> Tensor:
    """(objects, 4) left, top, right, bottom of each target on the grid, moved by a share of its sides."""
    low = target.shape[-1]
    inside = target[:, 0] > 0.5
    edges = []
    for axis in (1, 2):  # over rows: columns that are touched, then the other way round
        touched = inside.any(dim=axis).float()
        first = touched.argmax(dim=1)
        last = low - 1 - touched.flip(1).argmax(dim=1)
        edges += [first.float(), last.float()]
    left, right, top, bottom = edges
    width, height = right - left + 1, bottom - top + 1
    moves = torch.randn((4, len(left)), generator=generator).clamp(-2, 2) * jitter
    moved = [
        left + moves[0] * width, top + moves[1] * height,
        right + moves[2] * width, bottom + moves[3] * height,
    ]  # fmt: skip
    box = torch.stack(moved, dim=1).clamp(0, low - 1)
    return torch.cat(
        [torch.minimum(box[:, :2], box[:, 2:]), torch.maximum(box[:, :2], box[:, 2:])], 1
    )


def corrupted_masks(target: Tensor, generator: torch.Generator) -> Tensor:
    """(objects, 1, low, low) logits of a mask with much wrong: coarse, noisy, grown or with parts missing."""
    low = target.shape[-1]

    def draw() -> float:
        return float(torch.rand((), generator=generator))

    mask = target
    reach = int(draw() * 4)
    if reach and draw() < 0.5:
        size = 2 * reach + 1
        grown = functional.max_pool2d(mask, size, stride=1, padding=reach)
        shrunk = -functional.max_pool2d(-mask, size, stride=1, padding=reach)
        mask = grown if draw() < 0.5 else shrunk
    cells = max(4, low // (2 ** (1 + int(draw() * 4))))
    coarse = functional.interpolate(mask, size=(cells, cells), mode="area")
    noise = torch.randn(coarse.shape, generator=generator) * draw() * 0.5
    lost = torch.rand((len(mask), 1, 5, 5), generator=generator) < 0.12 * draw() * 2
    lost = functional.interpolate(lost.float(), size=(cells, cells), mode="nearest")
    logits = (coarse * (1 - lost) + noise - 0.5) * (2 + 18 * draw())
    logits = functional.interpolate(logits, size=(low, low), mode="bilinear", align_corners=False)
    if draw() < 0.3:
        logits = (logits > 0).float() * 16 - 8
    return logits.clamp(-FARTHEST_LOGIT, FARTHEST_LOGIT)
