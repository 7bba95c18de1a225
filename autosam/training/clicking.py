"""A simulated person at training time: clicks into the largest error of the mask before, round by round."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from autosam.models.contract import MaskNetwork
from autosam.prompts.corrections import next_click
from autosam.types import LowMask, MaskLogits, Query, SquarePrompt


@torch.no_grad()
def with_clicks(
    network: MaskNetwork,
    inputs: Mapping[str, Any],
    target: LowMask,
    valid: LowMask,
    *,
    count: int,
) -> dict[str, Any]:
    """The inputs of a step with the clicks of a person who saw the masks so far.

    Each round decodes without gradients, clicks once into each picture and feeds the mask back as SAM's
    mask prompt; the step that follows learns from the last of them.

    Args:
        network: As it is now; it looks in evaluation mode, and is left in the mode it was in.
        inputs: For the network, with or without automatic prompts.
        target: The true masks.
        valid: Where they count.
        count: Rounds; 0 gives the inputs back.

    Source:
        Kirillov et al. 2023 (SAM), https://arxiv.org/abs/2304.02643, appendix A.
    """
    changed, was_training = dict(inputs), network.training
    # As at inference: batch statistics would otherwise count each picture once a round.
    network.eval()
    truths, kept = target[:, 0].cpu().numpy(), valid[:, 0].cpu().numpy()
    scale = network.side / network.low_side
    for _ in range(count):
        logits = network(**changed)
        prompts: Sequence[SquarePrompt] = changed.get("prompts") or [SquarePrompt()] * len(target)
        changed["prompts"] = tuple(
            _clicked(prompt, mask, truth=truth, valid=area, scale=scale)
            for prompt, mask, truth, area in zip(prompts, logits[:, 0], truths, kept, strict=True)
        )
    network.train(was_training)
    return changed


def _clicked(
    prompt: SquarePrompt, mask: MaskLogits, *, truth: np.ndarray, valid: np.ndarray, scale: float
) -> SquarePrompt:
    """One more click on top of a prompt, and the mask that it corrects."""
    click = next_click((mask > 0).cpu().numpy(), truth, valid=valid)
    if click is None:
        return prompt
    # Middle of a cell of the mask's grid as a pixel index of the square.
    place, label = (click[0] + 0.5) * scale - 0.5, click[1]
    queries = tuple(
        Query(
            points=np.vstack([query.points, place[None]]),
            labels=np.append(query.labels, label),
            box=query.box,
        )
        for query in (prompt.queries or (Query(),))
    )
    return SquarePrompt(queries=queries, mask_logits=mask.float(), fusion=prompt.fusion)
