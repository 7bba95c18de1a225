"""What a learnt prompt amounts to: the clicks or the box with which SAM alone draws the same mask."""

import numpy as np
import torch

from autosam.data.geometry import Frame, logits_to_original
from autosam.data.prompt_geometry import prompt_to_square
from autosam.models.frozen_sam import Sam
from autosam.models.query_decoding import decode_prompts
from autosam.overlap import mask_iou
from autosam.prompts.boxes import tight_box
from autosam.prompts.corrections import next_click
from autosam.types import Explanation, ImageEmbedding, Prompt, Query

MOST_CLICKS = 8
"""More no person would make before drawing the outline by hand."""


def explain_mask(
    sam: Sam, image_embedding: ImageEmbedding, mask: np.ndarray, *, valid: np.ndarray | None = None
) -> Explanation:
    """Click into the largest remaining error, with and without a box first, and keep the best.

    Args:
        sam: Asked with points and a box only: no learnt prompt, no fed-back mask.
        image_embedding: (1, channels, grid, grid) of the picture.
        mask: (height, width) bool, the mask to explain.
        valid: (height, width) bool, False where nothing is asked.

    Returns:
        The prompt, in the picture's pixels, whose mask has the highest IoU with the given one. An
        empty mask is explained by the empty prompt.
    """
    best = Explanation(prompt=Prompt(source="explanation"), iou=-1.0)
    box = tight_box(mask)
    for start in (Query(), Query(box=box)) if box is not None else (Query(),):
        query = start
        for clicks in range(MOST_CLICKS + 1):
            drawn = _plain_mask(sam, image_embedding, query, mask.shape)
            if clicks or box is None or query.box is not None:
                best = _better(best, query, drawn, mask)
            click = next_click(drawn, mask, valid=valid)
            if click is None:
                break
            query = Query(
                points=np.vstack([query.points, click[0][None]]),
                labels=np.append(query.labels, click[1]),
                box=query.box,
            )
    return best


@torch.inference_mode()
def _plain_mask(
    sam: Sam, image_embedding: ImageEmbedding, query: Query, size: tuple[int, ...]
) -> np.ndarray:
    frame = Frame.fit(size[0], size[1], sam.side)
    prompt = prompt_to_square(Prompt(source="explanation", queries=(query,)), frame, sam.low_side)
    embedding = image_embedding.float()
    logits, _ = decode_prompts(sam, embedding, sam.no_mask_embedding(1), [prompt])
    water: np.ndarray = (logits_to_original(logits[0], frame) > 0).cpu().numpy()
    return water


def _better(best: Explanation, query: Query, drawn: np.ndarray, mask: np.ndarray) -> Explanation:
    iou = mask_iou(drawn, mask)
    if iou <= best.iou:
        return best
    queries = () if query.is_empty else (query,)
    return Explanation(prompt=Prompt(source="explanation", queries=queries), iou=iou)
