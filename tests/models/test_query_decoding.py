"""Points, boxes and masks through SAM: equal to transformers' own model, and to themselves in any batch."""

import numpy as np
import pytest
import torch
from transformers import SamModel

from autosam.errors import DataError, ModelError
from autosam.models.query_decoding import decode_prompts
from autosam.types import Query, SquarePrompt

POINTS = Query(points=np.array([[10, 20], [40, 5], [33, 60]]), labels=np.array([1, 0, 1]))
BOX = Query(box=np.array([4, 8, 50, 40]))
BOTH = Query(points=np.array([[10.0, 20.0]]), labels=np.array([1]), box=np.array([4, 8, 50, 40]))
NOTHING = Query()


@pytest.fixture
def embedding():
    return torch.randn(3, 32, 4, 4, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def reference(tiny_sam_folder):
    """Transformers' own model on the same weights, with Meta's layer norm."""
    from transformers import SamConfig

    config = SamConfig.from_pretrained(tiny_sam_folder)
    config.mask_decoder_config.layer_norm_eps = 1e-5
    return SamModel.from_pretrained(tiny_sam_folder, config=config).eval()


def decode(sam, embedding, *prompts):
    dense = sam.no_mask_embedding(len(embedding))
    with torch.no_grad():
        return decode_prompts(sam, embedding, dense, list(prompts))


def asked(*queries, **more):
    return SquarePrompt(queries=queries, **more)


@pytest.mark.parametrize("query", [POINTS, BOX, BOTH], ids=["points", "box", "both"])
def test_a_query_gives_the_mask_of_transformers_own_model(tiny_sam, reference, embedding, query):
    inputs = {}
    if len(query.labels):
        inputs["input_points"] = torch.from_numpy(query.points)[None, None]
        inputs["input_labels"] = torch.from_numpy(query.labels)[None, None]
    if query.box is not None:
        inputs["input_boxes"] = torch.from_numpy(query.box)[None, None]
    with torch.no_grad():
        expected = reference(image_embeddings=embedding[:1], multimask_output=False, **inputs)
    logits, predicted = decode(tiny_sam, embedding[:1], asked(query))
    assert logits.std() > 0.1  # a visible scale: parity on nearly nothing proves nothing
    torch.testing.assert_close(logits, expected.pred_masks[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(predicted, expected.iou_scores[:, 0, 0], rtol=1e-4, atol=1e-4)


def test_a_mask_prompt_is_sams_own_behind_no_learnt_prompt(tiny_sam, reference, embedding):
    mask = torch.randn(16, 16)
    with torch.no_grad():
        expected = reference(
            image_embeddings=embedding[:1], multimask_output=False,
            input_masks=mask[None, None],
            input_points=torch.from_numpy(POINTS.points)[None, None],
            input_labels=torch.from_numpy(POINTS.labels)[None, None],
        ).pred_masks[:, 0]  # fmt: skip
    logits, _ = decode(tiny_sam, embedding[:1], asked(POINTS, mask_logits=mask))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    without, _ = decode(tiny_sam, embedding[:1], asked(POINTS))
    assert (logits - without).abs().max() > 1e-3


def test_a_learnt_prompt_stays_under_a_mask_prompt(tiny_sam, embedding):
    learnt, mask = torch.randn(1, 32, 4, 4), torch.randn(16, 16)
    with torch.no_grad():
        logits, _ = decode_prompts(tiny_sam, embedding[:1], learnt, [asked(mask_logits=mask)])
        change = tiny_sam.encode_masks(mask[None, None]) - tiny_sam.no_mask_embedding(1)
        by_hand = tiny_sam.decode(embedding[:1], learnt + change)
    torch.testing.assert_close(logits, by_hand)


def test_pictures_that_ask_different_things_do_not_affect_each_other(tiny_sam, embedding):
    prompts = [asked(POINTS), asked(), asked(BOX, BOTH, fusion="union")]
    together, scores = decode(tiny_sam, embedding, *prompts)
    for index, prompt in enumerate(prompts):
        alone, score = decode(tiny_sam, embedding[index : index + 1], prompt)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scores[index : index + 1], score, rtol=1e-4, atol=1e-5)


def test_padding_points_never_change_a_mask(tiny_sam, embedding):
    padded = Query(
        points=np.vstack([POINTS.points, np.zeros((4, 2))]),
        labels=np.append(POINTS.labels, [-10] * 4),
    )
    only_padding = Query(points=np.zeros((2, 2)), labels=np.array([-10, -10]))
    logits, _ = decode(tiny_sam, embedding[:2], asked(POINTS), asked())
    with_padding, _ = decode(
        tiny_sam, embedding[:2], asked(padded, only_padding), asked(only_padding)
    )
    torch.testing.assert_close(with_padding, logits)
    # It would through SAM's own prompt encoder, whose zero token takes part in attention.
    with torch.no_grad():
        sparse = tiny_sam.encode_queries(
            torch.from_numpy(padded.points)[None], torch.from_numpy(padded.labels)[None], None
        )
        sams_own = tiny_sam.decode(embedding[:1], tiny_sam.no_mask_embedding(1), sparse)
    assert (sams_own - logits[:1]).abs().max() > 1e-3


def test_joint_points_are_one_query_and_differ_from_the_mean_of_single_ones(tiny_sam, embedding):
    singles = [
        Query(points=point[None], labels=label[None])
        for point, label in zip(POINTS.points, POINTS.labels, strict=True)
    ]
    masks = torch.stack([decode(tiny_sam, embedding[:1], asked(one))[0][0] for one in singles])
    scores = torch.cat([decode(tiny_sam, embedding[:1], asked(one))[1] for one in singles])
    mean, _ = decode(tiny_sam, embedding[:1], asked(*singles, fusion="mean"))
    best, score = decode(tiny_sam, embedding[:1], asked(*singles, fusion="best"))
    union, _ = decode(tiny_sam, embedding[:1], asked(*singles, fusion="union"))
    torch.testing.assert_close(mean[0], masks.mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(best[0], masks[scores.argmax()], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(score[0], scores.max(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(union[0], masks.amax(dim=0), rtol=1e-4, atol=1e-5)
    joint, _ = decode(tiny_sam, embedding[:1], asked(POINTS))
    assert (joint - mean).abs().max() > 1e-3


def test_an_empty_prompt_is_sams_own_null_prompt(tiny_sam, embedding):
    logits, _ = decode(tiny_sam, embedding, asked(), asked(NOTHING), asked())
    with torch.no_grad():
        null = tiny_sam.decode(embedding, tiny_sam.no_mask_embedding(3))
    torch.testing.assert_close(logits, null, rtol=1e-4, atol=1e-5)


def test_gradient_passes_to_the_dense_prompt_beside_points(tiny_sam, embedding):
    dense = torch.zeros(3, 32, 4, 4, requires_grad=True)
    logits, _ = decode_prompts(tiny_sam, embedding, dense, [asked(POINTS), asked(), asked(BOX)])
    logits.square().mean().backward()
    assert (dense.grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert all(p.grad is None for p in tiny_sam.parameters())


def test_a_prompt_for_each_picture_is_asked_for(tiny_sam, embedding):
    with pytest.raises(ModelError, match=r"one for each picture, got 1 for 3"):
        decode(tiny_sam, embedding, asked(POINTS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Query(points=np.zeros((2, 2)), labels=np.ones(1)), r"one label each, got \(2, 2\)"),
        (lambda: Query(points=np.zeros((1, 3)), labels=np.ones(1)), r"must be \(count, 2\)"),
        (lambda: Query(points=np.full((1, 2), np.nan), labels=np.ones(1)), "finite numbers"),
        (lambda: Query(points=np.zeros((1, 2)), labels=np.array([2])), r"or -10 \(padding\), got \[2\]"),
        (lambda: Query(box=np.array([5, 5, 2, 9])), "left <= right"),
        (lambda: Query(box=np.array([5, 5, 9])), "left, top, right, bottom"),
        (lambda: Query(box=np.array([0, 0, np.inf, 9])), "box must be finite numbers"),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_asked_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
