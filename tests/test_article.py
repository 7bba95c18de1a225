"""The article's notebook on our rooms: its loop runs, and the traps of its pipeline are closed."""

import io
import json
import subprocess
import sys
from pathlib import Path

import accelerate
import datasets
import monai
import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image
from scipy import ndimage
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import SamModel

from autosam.article import PromptType, SAMDataset, fuse_masks, get_dataloader
from autosam.data.synthetic import SyntheticDataset
from autosam.errors import AutoSamError, ConfigError, DataError, ModelError
from autosam.models.sam_processor import load_processor
from autosam.training.losses import dice_loss

BOTH = pytest.mark.parametrize("prompt_type", [PromptType.CONTROL_POINTS, PromptType.BOUNDING_BOX])
SIZES = {"image_size": 64, "mask_size": 32}
LOSS = monai.losses.DiceCELoss(sigmoid=True, squared_pred=True, reduction="mean")
"""The notebook's."""


def rows_of(images, labels, *, split="train"):
    """Rows as `load_dataset` gives them."""
    columns = {
        "image": [Image.fromarray(image) for image in images],
        "label": [Image.fromarray(label) for label in labels],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
    return datasets.Dataset.from_dict(columns, features=features, split=split)


def lakes(*masks, split="train", scale=1):
    """Rows with these masks, each over a picture of noise."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*mask.shape, 3), dtype=np.uint8) for mask in masks]
    return rows_of(images, [mask.astype(np.uint8) * scale for mask in masks], split=split)


def rectangle(shape=(64, 64), *, top=16, bottom=48, left=8, right=40):
    mask = np.zeros(shape, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Two threads of so small a model wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def processor():
    """Of side 64, as the tiny SAM's."""
    from transformers import SamImageProcessor, SamProcessor

    square = {"height": 64, "width": 64}
    return SamProcessor(SamImageProcessor(size={"longest_edge": 64}, pad_size=square))


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Six tiles to train on, one of them without water, and two to validate on."""
    scenes = list(SyntheticDataset(8, side=64))
    assert not scenes[4].mask.any()
    parts = {
        name: rows_of([s.image for s in part], [s.mask.astype(np.uint8) for s in part], split=name)
        for name, part in (("train", scenes[:6]), ("validation", scenes[6:]))
    }
    folder = tmp_path_factory.mktemp("hub")
    datasets.DatasetDict(parts).save_to_disk(folder)
    return datasets.load_from_disk(folder)


# The data set and its items.


def test_batches_have_the_shapes_that_the_notebook_recorded():
    """Section 5 of the description of the reference; five positive points in batches of two."""
    rows = lakes(rectangle(), rectangle())
    (points,) = get_dataloader(rows, "base", batch_size=2, num_positive=5)
    (boxes,) = get_dataloader(rows, "base", batch_size=2, prompt_type=PromptType.BOUNDING_BOX)
    shapes = {name: tuple(value.shape) for name, value in (boxes | points).items()}
    assert shapes == {
        "pixel_values": (2, 3, 1024, 1024),
        "original_sizes": (2, 2),
        "reshaped_input_sizes": (2, 2),
        "input_points": (2, 5, 1, 2),
        "input_labels": (2, 5, 1),
        "input_boxes": (2, 1, 4),
        "ground_truth_mask": (2, 256, 256),
    }
    assert "input_boxes" not in points
    assert "input_points" not in boxes
    assert points["ground_truth_mask"].unique().tolist() == [0, 1]


@pytest.mark.parametrize("image_size", [64, 256, 1024])
@pytest.mark.parametrize("mask_size", [64, 256])
def test_prompts_lie_on_the_water_whatever_the_sizes_and_proportions(
    processor, image_size, mask_size
):
    """There and back: from the mask to the processor's square, and from there to the picture."""
    mask = rectangle((60, 96), top=15, bottom=30, left=48, right=72)
    shared = {"image_size": image_size, "mask_size": mask_size, "training": False}
    points = SAMDataset(lakes(mask), processor, num_positive=8, num_negative=8, **shared)[0]
    labels = points["input_labels"][:, 0].numpy()
    assert {0, 1} <= set(labels)
    # The processor scales indices and not middles, which is up to half a pixel of its square.
    x, y = ((points["input_points"][:, 0].numpy() + 0.5) * np.array([96, 60]) / 64).astype(int).T
    for label, area in ((1, mask), (0, ~mask)):
        near = ndimage.binary_dilation(area)
        assert near[y[labels == label], x[labels == label]].all()
    box = SAMDataset(lakes(mask), processor, "bbox", **shared)[0]["input_boxes"][0].numpy()
    inside = (box + 0.5) * np.array([96, 60, 96, 60]) / 64
    assert np.abs(inside - np.array([48, 15, 72, 30])).max() <= 1.5, inside


def test_a_picture_of_1024_is_asked_at_the_same_places_as_one_of_256():
    """The reference's are four times too near to the corner; ours move to the middle of their cell."""
    rows = lakes(rectangle((256, 256), top=100, bottom=200, left=60, right=220))
    base = load_processor("base")
    small, large = (SAMDataset(rows, base, image_size=side)[0] for side in (256, 1024))
    kept = large["input_labels"] == 1
    assert kept.any()
    large, small = large["input_points"][kept], small["input_points"][kept]
    torch.testing.assert_close(large, small + 1.5)
    assert (large > torch.tensor([4 * 60, 4 * 100])).all()


def test_one_query_a_point_gives_one_mask_each(processor, tiny_sam_folder):
    item = SAMDataset(lakes(rectangle()), processor, num_negative=1, image_size=64)[0]
    model = SamModel.from_pretrained(tiny_sam_folder).eval()
    with torch.no_grad():
        outputs = forward_pass(
            model, {k: v[None] for k, v in item.items()}, PromptType.CONTROL_POINTS
        )
    assert outputs.pred_masks.shape == (1, 4, 1, 16, 16)
    assert {0, 1} <= set(item["input_labels"][:, 0].tolist())


def test_fewer_points_than_asked_for_are_padded_and_batched_with_others(processor):
    pixel = rectangle(top=30, bottom=31, left=30, right=31)
    rows = lakes(pixel, rectangle(top=0, bottom=64, left=0, right=64))
    dataset = SAMDataset(rows, processor, num_positive=4, image_size=64, mask_size=64)
    (batch,) = DataLoader(dataset, batch_size=2)
    labels, points = batch["input_labels"][..., 0], batch["input_points"][:, :, 0]
    few, more = (labels == 1).sum(dim=1).tolist()
    assert few == 1 < more
    assert labels[0].tolist() == [1, -10, -10, -10]
    assert (points[labels == -10] == 0).all()
    assert (points[labels == 1] > 0).any(dim=1).all()


@BOTH
def test_a_tile_without_water_is_an_item_like_others(processor, tiny_sam_folder, prompt_type):
    rows = lakes(np.zeros((64, 64), dtype=bool), rectangle())
    dataset = SAMDataset(rows, processor, prompt_type, image_size=64)
    (batch,) = DataLoader(dataset, batch_size=2)
    assert batch["ground_truth_mask"][0].sum() == 0
    if prompt_type == PromptType.CONTROL_POINTS:
        assert (batch["input_labels"][0] == -10).all()
        assert (batch["input_points"][0] == 0).all()
    else:
        assert batch["input_boxes"][0].tolist() == [[0, 0, 63, 63]]
    model = SamModel.from_pretrained(tiny_sam_folder)
    outputs = forward_pass(model, batch, prompt_type)
    logits = fuse_masks(outputs, input_labels=batch.get("input_labels"))
    loss = LOSS(F.interpolate(logits, 256), batch["ground_truth_mask"][:, None].float())
    loss.backward()
    assert loss.isfinite()
    gradients = [p.grad for p in model.mask_decoder.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_labels_of_any_scale_and_size_are_read_alike(processor):
    mask = rectangle((256, 256), top=64, bottom=192, left=32, right=160)
    small = mask[::4, ::4]
    ones, scaled = lakes(mask), lakes(mask, scale=255)
    shrunk = rows_of([np.array(ones[0]["image"])], [small.astype(np.uint8)])
    sizes = {"image_size": 64, "mask_size": 64}
    items = [SAMDataset(rows, processor, **sizes)[0] for rows in (ones, scaled, shrunk)]
    np.testing.assert_array_equal(items[0]["ground_truth_mask"], small)
    for item in items[1:]:
        for name, value in items[0].items():
            torch.testing.assert_close(item[name], value, rtol=0, atol=0)


def test_a_pair_of_lengths_as_in_the_notebook_is_one_length(processor):
    rows = lakes(rectangle())
    pair = SAMDataset(rows, processor, image_size=(256, 256), mask_size=(256, 256))[0]
    one = SAMDataset(rows, processor, image_size=256, mask_size=256)[0]
    assert all(torch.equal(pair[name], one[name]) for name in one)


def test_an_index_counts_from_the_end_and_ends(processor):
    dataset = SAMDataset(lakes(rectangle(), ~rectangle()), processor)
    assert torch.equal(dataset[-1]["input_points"], dataset[1]["input_points"])
    assert len(list(dataset)) == len(dataset) == 2
    with pytest.raises(IndexError):
        dataset[2]


# What is drawn at random.


@BOTH
def test_prompts_follow_from_seed_epoch_and_index(processor, prompt_type):
    rows = lakes(rectangle(), rectangle())
    key = "input_points" if prompt_type == PromptType.CONTROL_POINTS else "input_boxes"
    first, again = (SAMDataset(rows, processor, prompt_type, seed=3) for _ in range(2))
    other = SAMDataset(rows, processor, prompt_type, seed=4)
    drawn = first[0][key]
    np.random.random()  # the library's own generators do not matter
    assert all(torch.equal(drawn, same[0][key]) for same in (first, again))
    assert not torch.equal(drawn, other[0][key])
    assert not torch.equal(drawn, first[1][key])
    first.set_epoch(1)
    assert not torch.equal(drawn, first[0][key])
    first.set_epoch(0)
    assert torch.equal(drawn, first[0][key])


def test_training_boxes_move_both_ways_alike_and_validation_boxes_not_at_all(processor):
    mask = rectangle((128, 128), top=40, bottom=90, left=30, right=100)
    exact = torch.tensor([30.0, 40.0, 99.0, 89.0]) / 2  # as the processor scales them
    settings = {"prompt_type": "bbox", "image_size": 128, "mask_size": 128}
    validation = SAMDataset(lakes(mask, split="validation"), processor, **settings)
    training = SAMDataset(lakes(mask), processor, **settings)
    boxes = []
    for epoch in range(300):
        training.set_epoch(epoch)
        boxes.append(training[0]["input_boxes"][0])
    validation.set_epoch(7)
    torch.testing.assert_close(validation[0]["input_boxes"][0], exact)
    moves = (torch.stack(boxes) - exact) * 2
    assert 9 < moves.abs().max() <= 10 + 1e-4
    # Of 300 x 4 numbers uniform in -10..10 the mean has an error of 0.17; the article's lies at -0.5.
    assert moves.mean().abs() < 0.35
    assert moves.mean(dim=0).abs().max() < 1.3
    assert moves.std(dim=0).min() > 5


def test_each_pass_has_another_order_and_other_prompts_also_in_workers(hub, tiny_sam_folder):
    def passes(**settings):
        sizes = {"image_size": 64, "mask_size": 64}
        loader = get_dataloader(hub["train"], str(tiny_sam_folder), 2, **sizes, **settings)
        return [torch.cat([b["input_points"] for b in loader]) for _ in range(2)], loader

    (first, second), loader = passes()
    assert first.shape == (6, 3, 1, 2)
    assert len(loader) == 3
    assert not torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)
    (in_worker, then), _ = passes(workers=1)
    assert torch.equal(first, in_worker)
    assert torch.equal(second, then)
    loader.dataset.set_epoch(0)
    again = torch.cat([b["input_points"] for b in loader])
    assert torch.equal(first, again)
    assert not torch.equal(first, passes(seed=1)[0][0])


def test_the_order_of_training_is_another_in_each_pass_and_of_each_seed(hub, tiny_sam_folder):
    orders = []
    for seed in (0, 1):
        loader = get_dataloader(hub["train"], str(tiny_sam_folder), 4, image_size=64, seed=seed)
        assert [len(batch["pixel_values"]) for batch in loader] == [4, 2]
        loader.dataset.set_epoch(0)
        means = [torch.cat([b["pixel_values"].mean(dim=(1, 2, 3)) for b in loader]) for _ in "ab"]
        torch.testing.assert_close(means[0].sort().values, means[1].sort().values)
        orders += [tuple(mean.tolist()) for mean in means]
    assert len(set(orders)) == 4


def test_validation_reads_one_tile_at_a_time_in_order_always_alike(hub, tiny_sam_folder):
    loader = get_dataloader(hub["validation"], str(tiny_sam_folder), batch_size=5, mask_size=64)
    one = list(loader)
    loader.dataset.set_epoch(3)
    two = list(loader)
    assert [len(batch["pixel_values"]) for batch in one] == [1, 1]
    for index, (before, after) in enumerate(zip(one, two, strict=True)):
        label = np.array(hub["validation"][index]["label"])
        np.testing.assert_array_equal(before["ground_truth_mask"][0], label)
        assert torch.equal(before["input_points"], after["input_points"])


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", 2), ("train+validation", 2), ("validation[:10%]", 1), ("test", 1), (None, 2)],
)
def test_the_name_of_a_part_tells_whether_it_trains_unless_it_is_said(
    tiny_sam_folder, split, expected
):
    rows = lakes(rectangle(), rectangle(), split=split)
    model = str(tiny_sam_folder)
    assert get_dataloader(rows, model).dataset.training is (expected == 2)
    assert len(next(iter(get_dataloader(rows, model)))["pixel_values"]) == expected
    for training in (True, False):
        assert get_dataloader(rows, model, training=training).dataset.training is training


def test_all_three_published_sizes_are_taken():
    rows = lakes(rectangle())
    items = [get_dataloader(rows, size).dataset[0] for size in ("base", "large", "huge")]
    assert all(torch.equal(items[0][k], item[k]) for item in items for k in items[0])


# What the notebook does with the names.


def test_prompt_types_are_the_strings_that_checkpoints_hold():
    assert (PromptType.CONTROL_POINTS, PromptType.BOUNDING_BOX) == ("pts", "bbox")
    assert f"{PromptType.BOUNDING_BOX}_10" == "bbox_10"
    assert json.loads(json.dumps({"prompt_type": PromptType.CONTROL_POINTS})) == {
        "prompt_type": "pts"
    }
    stored = io.BytesIO()
    torch.save({"train_history": [{"prompt_type": PromptType.CONTROL_POINTS}]}, stored)
    stored.seek(0)
    assert torch.load(stored, weights_only=True)["train_history"] == [{"prompt_type": "pts"}]


def test_importing_the_names_imports_nothing_of_hugging_face():
    heavy = "('transformers', 'datasets', 'accelerate', 'timm', 'matplotlib')"
    code = f"import autosam.article, sys; print([n for n in {heavy} if n in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_type": "text"}, "prompt_type must be 'pts' or 'bbox', got 'text'"),
        ({"multi_mask": "first"}, "multi_mask must be 'mean' or 'best', got 'first'"),
        ({"num_positive": -1}, "num_positive must be a whole number of 0 or more, got -1"),
        ({"num_negative": 1.5}, "num_negative must be a whole number of 0 or more, got 1.5"),
        ({"num_positive": 0}, r"num_positive \+ num_negative must be 1 or more, got 0"),
        ({"perturbation": True}, "perturbation must be a whole number of 0 or more, got True"),
        ({"image_size": 8}, "image_size must be a whole number of 16 or more, got 8"),
        ({"image_size": (1024, 512)}, r"image_size must be one length, .* got \(1024, 512\)"),
        ({"mask_size": (256, 256, 3)}, "mask_size must be one length, or a pair"),
        ({"mask_size": 100_000}, "mask_size must be at most 4096, got 100000"),
        ({"image_size": np.array([256, 128])}, "image_size must be one length"),
        ({"erode": "no"}, "erode must be True or False, got 'no'"),
        ({"training": "no"}, "training must be True or False, got 'no'"),
        ({"seed": -3}, "seed must be a whole number of 0 or more, got -3"),
        ({"batch_size": 0}, "batch_size must be a whole number of 1 or more, got 0"),
        ({"workers": -1}, "workers must be a whole number of 0 or more, got -1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tiny_sam_folder, settings, message):
    with pytest.raises(ConfigError, match=message):
        get_dataloader(lakes(rectangle()), str(tiny_sam_folder), **settings)


def unlabelled():
    return lakes(rectangle()).remove_columns("label")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: datasets.DatasetDict(train=lakes(rectangle())), "one part .* got DatasetDict"),
        (lambda: [{"image": 0, "label": 0}], "must be one part of a datasets.Dataset, got list"),
        (lambda: lakes(rectangle()).to_iterable_dataset(), "one part .* got IterableDataset"),
        (lambda: lakes(rectangle()).select([]), "at least one row, got 0"),
        (unlabelled, "must have the column 'label', got image"),
        (lambda: lakes(rectangle()).rename_column("image", "tile"), "columns 'image' and 'label'"),
    ],
)
def test_a_dataset_that_cannot_be_learnt_from_is_refused(processor, make, message):
    with pytest.raises(DataError, match=message):
        SAMDataset(make(), processor)


def test_what_belongs_to_no_sam_is_refused(processor, tiny_sam_folder):
    rows = lakes(rectangle())
    with pytest.raises(ModelError, match="processor must be a SamProcessor, got str"):
        SAMDataset(rows, "facebook/sam-vit-base")
    with pytest.raises(ModelError, match="Did you mean 'large'"):
        get_dataloader(rows, "larg")
    for nothing in (None, ""):
        with pytest.raises(ModelError, match="a short name, a folder or a hub id, got"):
            get_dataloader(rows, nothing)
    with pytest.raises(AutoSamError, match="epoch must be a whole number of 0 or more, got -1"):
        SAMDataset(rows, processor).set_epoch(-1)


# The loop, as the notebook has it.


def test_the_loss_means_something_on_batch_channel_height_width_only():
    """The reference passes (batch, height, width): rows become classes, and all water costs nothing."""
    masks = np.stack([SyntheticDataset(3, side=256)[index].mask for index in range(3)])
    truth = torch.from_numpy(masks).float()
    perfect = (2 * truth - 1) * 50
    shaped = [LOSS(x[:, None], truth[:, None]) for x in (perfect, 0 * truth, perfect + 100)]
    assert shaped[0] < 1e-4
    assert 1 < shaped[1] < 2
    assert shaped[2] > 10
    wrong = [LOSS(x, truth) for x in (perfect, 0 * truth, perfect + 100)]
    water = truth.sum(
        dim=1
    )  # k of each column, in which a perfect softmax over rows still costs k log k
    expected = torch.special.xlogy(water, water).mean()
    torch.testing.assert_close(wrong[0], expected, rtol=1e-3, atol=1e-3)
    assert wrong[0] > 50
    assert (wrong[2] - wrong[0]).abs() < 1
    valid = torch.ones_like(truth, dtype=torch.bool)
    with pytest.raises(ModelError, match=r"must be \(batch, 1, height, width\)"):
        dice_loss(perfect, truth > 0, valid)


def forward_pass(model, batch, prompt_type):
    asked = {
        PromptType.CONTROL_POINTS: ("input_points", "input_labels"),
        PromptType.BOUNDING_BOX: ("input_boxes",),
    }[prompt_type]
    prompt = {name: batch[name] for name in asked}
    return model(pixel_values=batch["pixel_values"], **prompt, multimask_output=False)


def loss_of(model, batch, dataset):
    outputs = forward_pass(model, batch, dataset.prompt_type)
    logits = fuse_masks(outputs, dataset.multi_mask, input_labels=batch.get("input_labels"))
    truth = batch["ground_truth_mask"][:, None].float()
    return LOSS(F.interpolate(logits, size=truth.shape[-2:]), truth)


def load_frozen(sam):
    """Only the decoder learns."""
    model = SamModel.from_pretrained(sam)
    for name, parameter in model.named_parameters():
        if name.startswith(("vision_encoder", "prompt_encoder")):
            parameter.requires_grad_(False)
    return model


def training_loop(hub, sam, folder, prompt_type, rates, resume=False):
    """One epoch for each learning rate, with validation; the best model and the last state are kept."""
    accelerator = accelerate.Accelerator(cpu=True)
    settings = {"prompt_type": prompt_type, **SIZES, "seed": 5}
    train = get_dataloader(hub["train"], str(sam), 3, **settings)
    validation = get_dataloader(hub["validation"], str(sam), 3, **settings)
    model = load_frozen(sam)
    optimiser = AdamW(model.mask_decoder.parameters(), weight_decay=2e-4)
    losses, best = [], float("inf")
    if resume:
        safetensors.torch.load_model(model, folder / "last.safetensors")
        state = torch.load(folder / "last.pth", weights_only=True)
        optimiser.load_state_dict(state["optimiser"])
        losses, best = state["losses"], min(state["losses"])
    model, optimiser, train, validation = accelerator.prepare(model, optimiser, train, validation)
    train.set_epoch(len(losses))
    for rate in rates[len(losses) :]:
        model.train()
        for group in optimiser.param_groups:
            group["lr"] = rate
        for batch in train:
            optimiser.zero_grad()
            accelerator.backward(loss_of(model, batch, train.dataset))
            optimiser.step()
        losses.append(validation_loss(model, validation))
        plain = accelerator.unwrap_model(model)
        safetensors.torch.save_model(plain, folder / "last.safetensors")
        torch.save({"optimiser": optimiser.state_dict(), "losses": losses}, folder / "last.pth")
        if losses[-1] < best:
            best = losses[-1]
            safetensors.torch.save_model(plain, folder / "best.safetensors")
    return losses, accelerator.unwrap_model(model)


def validation_loss(model, loader):
    model.eval()
    with torch.no_grad():
        return float(np.mean([loss_of(model, batch, loader.dataset).item() for batch in loader]))


@pytest.fixture
def _fresh_accelerate():
    """Accelerate remembers a process's first set-up, which is not that of the tests to come."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.mark.usefixtures("_fresh_accelerate")
def test_accelerate_counts_the_epochs_of_a_loader_that_is_made_by_hand(processor):
    plain = DataLoader(SAMDataset(lakes(rectangle()), processor, **SIZES), shuffle=True)
    prepared = accelerate.Accelerator(cpu=True).prepare(plain)
    passes = [next(iter(plain))["input_points"] for _ in range(2)]
    assert torch.equal(*passes)  # nobody counts
    first, second = (torch.cat([b["input_points"] for b in prepared]) for _ in range(2))
    assert torch.equal(first, passes[0])
    assert not torch.equal(first, second)


@pytest.mark.usefixtures("_fresh_accelerate")
@BOTH
def test_the_notebooks_loop_trains_the_decoder_and_nothing_else(
    hub, tiny_sam_folder, tmp_path, prompt_type
):
    losses, model = training_loop(hub, tiny_sam_folder, tmp_path, prompt_type, [1e-3, 1e-3])
    assert len(losses) == 2
    assert all(np.isfinite(losses))
    before = SamModel.from_pretrained(tiny_sam_folder).state_dict()
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all(name.startswith("mask_decoder.") for name in changed)
    assert any("output_hypernetworks_mlps.0" in name for name in changed)


@pytest.mark.usefixtures("_fresh_accelerate")
@pytest.mark.parametrize(("rates", "best"), [([1e-4, 10.0, 1e-4], 0), ([10.0, 1e-4, 1e-4], None)])
def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(
    hub, tiny_sam_folder, tmp_path, rates, best
):
    losses, _ = training_loop(hub, tiny_sam_folder, tmp_path, PromptType.CONTROL_POINTS, rates)
    if best is not None:
        assert np.argmin(losses) == best
    model = SamModel.from_pretrained(tiny_sam_folder)
    safetensors.torch.load_model(model, tmp_path / "best.safetensors")
    validation = get_dataloader(hub["validation"], str(tiny_sam_folder), **SIZES, seed=5)
    assert validation_loss(model, validation) == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.usefixtures("_fresh_accelerate")
@BOTH
def test_a_resumed_loop_ends_where_an_uninterrupted_one_does(
    hub, tiny_sam_folder, tmp_path, prompt_type
):
    rates, folders = [1e-3] * 2, [tmp_path / "whole", tmp_path / "cut"]
    for folder in folders:
        folder.mkdir()
    whole, model = training_loop(hub, tiny_sam_folder, folders[0], prompt_type, rates)
    training_loop(hub, tiny_sam_folder, folders[1], prompt_type, rates[:1])
    cut, resumed = training_loop(hub, tiny_sam_folder, folders[1], prompt_type, rates, resume=True)
    assert cut == whole
    after = resumed.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in model.state_dict().items())


@BOTH
def test_a_picture_is_learnt_by_heart(tiny_sam_folder, prompt_type):
    model = load_frozen(tiny_sam_folder)
    rows = lakes(rectangle(), split="validation")  # so that boxes stay
    loader = get_dataloader(rows, str(tiny_sam_folder), prompt_type=prompt_type, **SIZES)
    (batch,) = loader
    optimiser = AdamW(model.mask_decoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(70):
        loss = loss_of(model, batch, loader.dataset)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert max(losses[-5:]) < 0.1 * losses[0], (losses[0], losses[-5:])


@pytest.mark.usefixtures("_fresh_accelerate")
def test_the_loop_runs_from_a_notebook_launcher(hub, tiny_sam_folder, tmp_path):
    arguments = (hub, tiny_sam_folder, tmp_path, PromptType.BOUNDING_BOX, [1e-3])
    accelerate.notebook_launcher(training_loop, arguments, num_processes=1)
    assert (tmp_path / "best.safetensors").is_file()


def test_the_notebooks_own_loader_function_runs_on_our_names(hub, tiny_sam_folder):
    """Its later version makes both loaders itself, with pairs of lengths and the settings by name."""
    processor = load_processor(tiny_sam_folder)
    prompt_args = {
        "prompt_type": PromptType.CONTROL_POINTS, "num_positive": 5, "num_negative": 0,
        "erode": True, "multi_mask": "best",
    }  # fmt: skip
    sets = [
        SAMDataset(
            dataset=hub[part], processor=processor, image_size=(256, 256), mask_size=(256, 256),
            perturbation=10, **prompt_args,
        )
        for part in ("train", "validation")
    ]  # fmt: skip
    train = DataLoader(sets[0], batch_size=3, shuffle=True)
    model = SamModel.from_pretrained(Path(tiny_sam_folder))
    for batch in train:
        outputs = forward_pass(model, batch, train.dataset.prompt_type)
        best = torch.argmax(outputs.iou_scores, dim=1).squeeze(1)
        masks = outputs.pred_masks.squeeze(1)[torch.arange(3), best]
        assert masks.squeeze(1).shape == (3, 16, 16)
        fused = fuse_masks(outputs, train.dataset.multi_mask)
        torch.testing.assert_close(fused, masks)
    assert [part.training for part in sets] == [True, False]
