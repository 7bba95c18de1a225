"""Prompts of points, boxes and masks through SAM's decoder, and their masks fused to one for each picture.

Pictures of one batch may ask different things. Queries of equal make (as many points, with or without a
box) are decoded together and padding points are dropped before, so that what stands beside a prompt in its
batch never changes its mask; SAM's own padding token (label -10) would, since it takes part in attention.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from autosam.errors import ModelError
from autosam.models.frozen_sam import Sam
from autosam.types import (
    PADDING_POINT,
    Fusion,
    ImageEmbedding,
    MaskLogits,
    PredictedIou,
    PromptEmbedding,
    Query,
    SparsePrompt,
    SquarePrompt,
)

Decode = Callable[
    [ImageEmbedding, PromptEmbedding, SparsePrompt | None], tuple[MaskLogits, PredictedIou]
]


class _Make(NamedTuple):
    """What queries must share to be decoded together."""

    points: int
    has_box: bool


def decode_prompts(
    sam: Sam,
    image_embedding: ImageEmbedding,
    dense: PromptEmbedding,
    prompts: Sequence[SquarePrompt],
    *,
    decode: Decode | None = None,
) -> tuple[MaskLogits, PredictedIou]:
    """One mask for each picture, from its prompt on top of a dense one.

    A prompt without queries asks with the dense prompt alone. A mask prompt is added to the dense one in
    the place of SAM's no-mask embedding, so that behind `no_mask_embedding` it is exactly SAM's own, and
    behind a learnt prompt it corrects that. A SAM with `click_discs` also finds points drawn there.

    Args:
        sam: Whose prompt encoder and mask decoder are used.
        image_embedding: One for each picture.
        dense: One for each picture.
        prompts: One for each picture, in the square's coordinates.
        decode: In the place of `sam.decode_scored`.

    Returns:
        Mask logits (batch, 1, low, low), fused over each picture's queries, and the predicted IoU of
        that mask, averaged where masks were.

    Raises:
        ModelError: There is not one prompt for each picture.
    """
    if len(prompts) != len(image_embedding):
        raise ModelError(
            f"prompts must be one for each picture, got {len(prompts)} for {len(image_embedding)}. "
            "Give an empty prompt where nothing is asked."
        )
    owners, queries = _listed(prompts)
    pictures = torch.tensor(owners, device=dense.device)
    masks = [_mask_prompt(sam, prompts[o], q) for o, q in zip(owners, queries, strict=True)]
    dense = _with_masks(sam, dense[pictures], masks)
    decode = decode or sam.decode_scored
    parts: list[tuple[list[int], MaskLogits, PredictedIou]] = []
    for make, members in _by_make(queries).items():
        sparse = _tokens(sam, [queries[m] for m in members], make, dense.device)
        rows = torch.tensor(members, device=dense.device)
        logits, predicted = decode(image_embedding[pictures[rows]], dense[rows], sparse)
        parts.append((members, logits, predicted))
    order = torch.tensor([m for members, _, _ in parts for m in members]).argsort().tolist()
    logits = torch.cat([logits for _, logits, _ in parts])[order]
    predicted = torch.cat([predicted for _, _, predicted in parts])[order]
    return _fused(logits, predicted, owners, prompts)


def _mask_prompt(sam: Sam, prompt: SquarePrompt, query: Query) -> Tensor | None:
    """(low, low) logits of a query's mask prompt; None where it has none."""
    mask = prompt.mask_logits
    if sam.click_discs is None or not len(query.labels):
        return mask
    points = torch.from_numpy(query.points).float()
    cells = (points + 0.5) * (sam.low_side / sam.side) - 0.5
    drawn = sam.click_discs.drawn(
        None if mask is None else mask.float().cpu()[None, None],
        cells[None],
        torch.from_numpy(query.labels)[None],
        low=sam.low_side,
    )
    return drawn[0, 0]


def _with_masks(
    sam: Sam, dense: PromptEmbedding, masks: Sequence[Tensor | None]
) -> PromptEmbedding:
    """The dense prompts of queries, changed where one brings a mask."""
    rows = [row for row, mask in enumerate(masks) if mask is not None]
    if not rows:
        return dense
    given = [mask.float().to(dense.device) for mask in masks if mask is not None]
    change = sam.encode_masks(torch.stack(given)[:, None]) - sam.no_mask_embedding(1)
    return dense.index_add(0, torch.tensor(rows, device=dense.device), change.to(dense.dtype))


def _listed(prompts: Sequence[SquarePrompt]) -> tuple[list[int], list[Query]]:
    """Every query with the picture it belongs to; a picture without any asks an empty one."""
    pairs = [
        (picture, _without_padding(query))
        for picture, prompt in enumerate(prompts)
        for query in ([q for q in prompt.queries if not q.is_empty] or [Query()])
    ]
    return [owner for owner, _ in pairs], [query for _, query in pairs]


def _without_padding(query: Query) -> Query:
    kept = query.labels != PADDING_POINT
    if kept.all():
        return query
    return Query(points=query.points[kept], labels=query.labels[kept], box=query.box)


def _by_make(queries: Sequence[Query]) -> dict[_Make, list[int]]:
    groups: dict[_Make, list[int]] = defaultdict(list)
    for index, query in enumerate(queries):
        groups[_Make(len(query.labels), query.box is not None)].append(index)
    return dict(groups)


def _tokens(
    sam: Sam, queries: Sequence[Query], make: _Make, device: torch.device
) -> SparsePrompt | None:
    """Tokens of queries of equal make; None where they ask nothing."""
    points = labels = boxes = None
    if make.points:
        points = torch.stack([torch.from_numpy(query.points) for query in queries]).to(device)
        labels = torch.stack([torch.from_numpy(query.labels) for query in queries]).to(device)
    if make.has_box:
        boxes = torch.stack([torch.as_tensor(query.box) for query in queries]).to(device)
    if points is None and boxes is None:
        return None
    return sam.encode_queries(points, labels, boxes)


def _fused(
    logits: MaskLogits,
    predicted: PredictedIou,
    owners: Sequence[int],
    prompts: Sequence[SquarePrompt],
) -> tuple[MaskLogits, PredictedIou]:
    """One mask a picture; queries come in the pictures' order."""
    if len(owners) == len(prompts):
        return logits, predicted
    counts = torch.bincount(torch.tensor(owners), minlength=len(prompts)).tolist()
    parts = torch.split(logits, counts), torch.split(predicted, counts)
    pairs = zip(*parts, prompts, strict=True)
    fused = [_fuse(masks, scores, prompt.fusion) for masks, scores, prompt in pairs]
    return torch.stack([mask for mask, _ in fused]), torch.stack([score for _, score in fused])


def _fuse(masks: MaskLogits, scores: PredictedIou, fusion: Fusion) -> tuple[Tensor, Tensor]:
    if fusion == "best":
        best = scores.argmax()  # stays on the device: indexing by a tensor waits for nothing
        return masks.index_select(0, best[None])[0], scores.index_select(0, best[None])[0]
    if fusion == "union":
        return masks.amax(dim=0), scores.mean()
    return masks.mean(dim=0), scores.mean()
