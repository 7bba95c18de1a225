"""By the door: every prompted method trains, is judged under any prompt, masks pictures and is corrected."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from autosam import AutoSam
from autosam.cli import run
from autosam.data.synthetic import make_scene
from autosam.errors import ConfigError, DataError, ImageError, ModelError, PromptMismatchWarning
from autosam.recipes.evaluating import evaluate_run
from autosam.recipes.prompting import PromptChoice
from autosam.types import Sample


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("prompted")


@pytest.fixture(scope="module")
def train(place, tiny_sam_folder):
    """Trains a method once; runs are kept for the other tests."""
    runs = {}

    def train(name, *settings, **more):
        if name not in runs:
            values = {
                "data": {
                    "synthetic_count": 6,
                    "synthetic_side": 64,
                    "validation_share": 0.2,
                    "test_share": 0.2,
                },
                "sam": {"name": str(tiny_sam_folder)},
                "prompt": {"network": "hardnet39ds", "side": 32},
                "train": {"epochs": 2, "batch_size": 2, "warmup_steps": 1},
                "evaluate": {"bootstrap": 20, "worst": 2},
                "cache": {"directory": str(place / "cache")},
            } | more
            config = place / f"{name}.yaml"
            config.write_text(json.dumps(values))
            pairs = [part for setting in settings for part in ("--set", setting)]
            assert run(["train", str(config), "-o", str(place / name), *pairs]) == 0
            runs[name] = place / name
        return runs[name]

    return train


@pytest.fixture(scope="module")
def decoder(train):
    return train("decoder", "method=decoder")


@pytest.fixture(scope="module")
def automatic(train):
    return train("automatic", "method=autosam", "train.simulated_corrections=2")


def facts(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("points", ["method=decoder", "geometric.fusion=mean", "geometric.negative=1"]),
        ("box", ["method=decoder", "geometric.kind=box", "geometric.components=each"]),
        ("both", ["method=decoder", "geometric.kind=both", "train.iou_head=true", "geometric.fusion=best"]),
        ("as-mask", ["method=decoder", "geometric.kind=mask"]),
        ("full-box", ["method=decoder-box-full"]),
        ("null", ["method=decoder-null", "train.views=8"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_only_the_mask_decoder_trains_and_nothing_of_it_is_lost(train, tiny_sam, name, settings):
    folder = train(name, *settings)
    saved = load_file(folder / "model.safetensors")
    own = {f"mask_decoder.{k}": v for k, v in tiny_sam.mask_decoder.state_dict().items()}
    assert saved.keys() == own.keys()
    changed = {key for key, value in saved.items() if not torch.equal(value, own[key])}
    heads = {key for key in saved if "iou_prediction_head" in key}
    others = {key for key in saved if re.search(r"hypernetworks_mlps\.[123]", key)}
    assert changed - heads
    assert len(others) > 6
    assert not changed & others, "the three other masks are frozen by name"
    assert bool(changed & heads) == (name == "both"), "the IoU head trains on request alone"


def test_a_run_says_what_its_prompts_are_made_from(decoder, train):
    told = facts(decoder)
    assert told["facts"]["scores"]["validation"]["prompt"] == "coarse hsv points"
    assert told["coarse"]["kind"] == "hsv"
    assert 0 <= told["facts"]["coarse"]["training_iou"] <= 1
    oracle = train("oracle", "method=decoder", "geometric.source=oracle")
    assert facts(oracle)["facts"]["scores"]["validation"]["prompt"] == "oracle points"


def test_zero_shot_trains_nothing_but_chooses_its_threshold(train):
    folder = train("zero", "method=zero-shot", "geometric.kind=full-box")
    assert facts(folder)["facts"]["stopped"] == "nothing to train"
    assert load_file(folder / "model.safetensors") == {}
    result = evaluate_run(folder)
    assert result.context["prompt"] == "full box"
    assert AutoSam.from_pretrained(folder).predict(make_scene(1, side=64).image).prompt.queries


@pytest.mark.parametrize(
    ("choice", "source"),
    [
        (None, "coarse hsv points"),
        (PromptChoice(oracle=True), "oracle points"),
        (PromptChoice(kind="null"), "null"),
        (PromptChoice(kind="full-box"), "full box"),
        (PromptChoice(kind="box", oracle=True), "oracle box"),
    ],
    ids=["own", "oracle", "null", "full-box", "oracle-box"],
)
def test_one_decoder_is_judged_under_any_prompt(decoder, choice, source, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptMismatchWarning)
        result = evaluate_run(decoder, prompts=choice, output=tmp_path / "out")
    assert result.context["prompt"] == source
    assert {row["prompt"] for row in result.rows} == {source}
    assert f"prompt: {source}" in result.table()
    assert source in (tmp_path / "out" / "per_image.csv").read_text()


def test_another_kind_of_prompt_than_trained_with_is_a_warning(decoder, capsys):
    model = AutoSam.from_pretrained(decoder)
    with pytest.warns(
        PromptMismatchWarning, match="'decoder' was trained with prompts of kind 'points'"
    ):
        model.prompted_by(kind="box")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.prompted_by(kind="points", oracle=True)
    assert run(["evaluate", str(decoder), "--prompt", "box", "--oracle"]) == 0
    told = capsys.readouterr()
    assert "autosam: warning: 'decoder' was trained with prompts of kind 'points'" in told.err
    assert "ORACLE" in told.err
    assert (decoder / "evaluation" / "test--oracle-box" / "metrics.json").is_file()


def test_a_trained_run_can_be_the_coarse_mask(decoder, automatic, train, place, tmp_path):
    scene = make_scene(7, side=64)
    sample = Sample(name="s", image=scene.image)
    own = AutoSam.from_pretrained(automatic).predict_sample(sample).mask
    chosen = AutoSam.from_pretrained(decoder).prompted_by(
        kind="points", coarse=AutoSam.from_pretrained(automatic)
    )
    prompt = chosen.predict_sample(sample).prompt
    assert prompt.source == "own model autosam points"
    points = prompt.queries[0].points if prompt.queries else np.zeros((0, 2))
    assert all(own[int(y), int(x)] for x, y in points)
    result = evaluate_run(
        decoder, prompts=PromptChoice(coarse_from=automatic), output=tmp_path / "o"
    )
    assert result.context["prompt"] == "own model autosam points"
    # Trained with it, a run carries the coarse model along and needs the other run no longer.
    other = shutil.copytree(automatic, tmp_path / "automatic")
    folder = train("with-run", "method=decoder", f"coarse.source={other}")
    assert facts(folder)["facts"]["coarse"]["seen_by_coarse_run"] == 0
    shutil.rmtree(other)
    loaded = AutoSam.from_pretrained(folder)
    assert loaded.coarse.model.network.sam.image_encoder is None, "one encoder serves both"
    again = loaded.predict_sample(sample).prompt
    assert np.array_equal(again.queries[0].points if again.queries else np.zeros((0, 2)), points)
    moved = loaded.save_pretrained(tmp_path / "moved")
    assert AutoSam.from_pretrained(moved).predict_sample(sample).prompt.source == prompt.source


def test_a_person_corrects_on_top_of_the_learnt_prompt(automatic):
    model, image = AutoSam.from_pretrained(automatic), make_scene(3, side=64).image
    before = model.predict(image)
    assert before.prompt is None
    clicked = model.predict(image, points=[(5, 6)], labels=[1])
    assert clicked.prompt.source == "learnt + human"
    assert np.abs(clicked.probability - before.probability).max() > 1e-3
    again = model.predict(image, points=[(5, 6)], labels=[1], previous=clicked)
    assert np.abs(again.probability - clicked.probability).max() > 1e-3
    boxed = model.predict(image, box=(3, 3, 50, 40), scribbles=[(np.array([[1, 1], [30, 9]]), 0)])
    assert boxed.prompt.queries[0].box is not None
    assert len(boxed.prompt.queries[0].labels) == 8


def test_clicks_are_in_the_pictures_own_pixels_whatever_its_shape(automatic):
    model = AutoSam.from_pretrained(automatic)
    small = make_scene(3, side=(48, 96)).image
    large = np.kron(small, np.ones((2, 2, 1), np.uint8))
    one = model.predict(small, points=[(60, 20)], labels=[1]).mask_logits
    two = model.predict(large, points=[(120, 40)], labels=[1]).mask_logits
    other = model.predict(large, points=[(60, 20)], labels=[1]).mask_logits
    assert np.abs(one - two).mean() < 0.2 * np.abs(one - other).mean()


def test_a_mask_is_explained_by_the_points_that_plain_sam_needs(automatic):
    model = AutoSam.from_pretrained(automatic)
    prediction = model.predict(make_scene(3, side=64).image)
    explanation = prediction.as_points()
    plain = AutoSam(model.config, network=model.network).network.sam
    assert 0 <= explanation.iou <= 1
    # The IoU is that of the mask which SAM gives for these very points, asked anew.
    from autosam.inference.explaining import _plain_mask
    from autosam.inference.logits import image_embedding_of, square_of
    from autosam.types import Query

    query = explanation.prompt.queries[0] if explanation.prompt.queries else Query()
    embedding = image_embedding_of(model.network, square_of(model.network, prediction.image))
    drawn = _plain_mask(plain, embedding, query, prediction.mask.shape)
    union = (drawn | prediction.mask).sum()
    assert explanation.iou == pytest.approx((drawn & prediction.mask).sum() / union if union else 1)


def test_corrections_that_cannot_be_are_refused(automatic, train, tmp_path):
    model, image = AutoSam.from_pretrained(automatic), make_scene(3, side=64).image
    with pytest.raises(ImageError, match="inside the picture of 64 x 64 pixels"):
        model.predict(image, points=[(64, 3)], labels=[1])
    with pytest.raises(DataError, match="single picture"):
        model.predict([image, image], points=[(1, 3)], labels=[1])
    unet = AutoSam.from_pretrained(train("unet", "method=unet"))
    with pytest.raises(ModelError, match="corrections must be for a method with a SAM, got 'unet'"):
        unet.predict(image, points=[(1, 3)], labels=[1])
    with pytest.raises(DataError, match="SAM to be explained by points"):
        unet.predict(image).as_points()
    with pytest.raises(ModelError, match=r"must be for decoder, .* got 'unet'"):
        unet.prompted_by(kind="box")


def test_a_model_that_prompts_itself_takes_no_other_prompts(automatic):
    model = AutoSam.from_pretrained(automatic)
    assert model.prompt_source == "learnt"
    with pytest.raises(ModelError, match="got 'autosam', which needs none"):
        model.prompted_by(kind="null")


def test_a_mask_that_cannot_be_fed_back_is_refused(automatic, train):
    model, unet = (
        AutoSam.from_pretrained(automatic),
        AutoSam.from_pretrained(train("unet", "method=unet")),
    )
    image = make_scene(3, side=64).image
    with pytest.raises(
        DataError, match="a model with a SAM, whose mask can be fed back, got that of unet"
    ):
        model.predict(image, previous=unet.predict(image))


def test_prompts_from_a_run_that_has_seen_the_pictures_are_said_to_flatter(
    decoder, automatic, tmp_path, capsys
):
    other = tmp_path / "other"
    shutil.copytree(automatic, other)
    split = json.loads((other / "split.json").read_text())
    split["train"], split["test"] = split["test"], split["train"]
    split = {key: split[key] for key in split if key != "hash"}
    (other / "split.json").write_text(json.dumps(split))
    for run_folder, seen in ((automatic, 0), (other, len(split["train"]))):
        command = ["evaluate", str(decoder), "--coarse-from", str(run_folder)]
        assert run([*command, "-o", str(tmp_path / f"seen-{seen}")]) == 0
        assert ("its prompts flatter" in capsys.readouterr().err) == bool(seen)
        metrics = json.loads((tmp_path / f"seen-{seen}" / "metrics.json").read_text())
        assert metrics["context"]["seen_by_coarse_run"] == seen


def test_points_on_ignored_ground_are_counted_apart(place, tiny_sam_folder, tmp_path):
    """Water on the left, where the label does not count, is bright and blue as on the right."""
    for name in ("images", "masks", "valid"):
        (tmp_path / "rivers" / name).mkdir(parents=True)
    for number in range(6):
        image, water, valid = (
            np.zeros((64, 96, 3), np.uint8),
            np.zeros((64, 96), bool),
            np.ones((64, 96), bool),
        )
        image[..., 1] = 90 + number
        image[8:56, 4:44] = image[20:44, 60:90] = (20, 60, 200)
        water[20:44, 60:90] = True  # nobody has labelled the left one
        valid[:, :48] = False
        for name, array in (("images", image), ("masks", water), ("valid", valid)):
            Image.fromarray(array).save(tmp_path / "rivers" / name / f"{number}.png")
    config = {
        "method": "decoder",
        "data": {"source": [str(tmp_path / "rivers")], "validation_share": 0.4, "test_share": 0.2},
        "sam": {"name": str(tiny_sam_folder)},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    for _ in range(2):  # its own sheet may be replaced
        command = ["prompts", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "prompts.png")]
        assert run(command) == 0
    report = json.loads((tmp_path / "prompts.json").read_text())
    assert report["points_ignored"] > 0
    assert report["points_on_land"] in (0, None)


def test_a_mask_of_another_picture_is_not_fed_back(automatic):
    model = AutoSam.from_pretrained(automatic)
    one, other = (make_scene(seed, side=64).image for seed in (3, 4))
    with pytest.raises(DataError, match="prediction of the same picture"):
        model.predict(one, previous=model.predict(other))
    with pytest.raises(DataError, match="must be a Prediction, got str"):
        model.predict(one, previous="river.png")
    with pytest.raises(DataError, match="ones that the model reads, got 'nir'"):
        model.predict(one, bands={"nir": np.zeros((64, 64))})


def test_any_function_can_be_the_coarse_mask_and_nothing_else(decoder):
    model, image = AutoSam.from_pretrained(decoder), make_scene(3, side=64).image

    def dark(sample):
        return sample.image.mean(axis=2) < 128

    assert model.prompted_by(coarse=dark).predict(image).prompt.source == "coarse dark points"
    with pytest.raises(DataError, match=r"must be bool .* got NoneType"):
        model.prompted_by(coarse=lambda sample: None).predict(image)
    with pytest.raises(
        ModelError, match="rule, a function from sample to mask or an AutoSam, got str"
    ):
        model.prompted_by(coarse="runs/a")
    with pytest.raises(ConfigError, match="True or False, got 'no'"):
        model.prompted_by(oracle="no")


def test_every_file_of_an_oracle_says_so(train):
    oracle = train("oracle", "method=decoder", "geometric.source=oracle")
    assert "oracle points" in (oracle / "README.md").read_text()
    assert "nobody clicks" not in (oracle / "README.md").read_text()
    evaluate_run(oracle, split="validation")
    assert (oracle / "evaluation" / "validation--oracle" / "metrics.json").is_file()
    assert not (oracle / "evaluation" / "validation").exists()


def test_the_click_curve_is_written_and_labelled_an_oracle(automatic, tmp_path):
    folder = tmp_path / "curve"
    arguments = ["evaluate", str(automatic), "--split", "validation", "--clicks", "3"]
    assert run([*arguments, "-o", str(folder)]) == 0
    curve = json.loads((folder / "clicks.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "oracle clicks" in curve["prompt"]
    assert [len(row["iou"]) for row in curve["rows"]] == [4] * curve["images"]
    assert curve["mean"][0] == pytest.approx(metrics["summary"]["iou"]["mean"])
    assert Image.open(folder / "clicks.png").size[0] > 300


def test_pictures_are_masked_by_other_prompts_from_the_command_line(decoder, automatic, tmp_path):
    Image.fromarray(make_scene(9, side=64).image).save(tmp_path / "a.png")
    command = ["predict", str(tmp_path / "a.png"), "-m", str(decoder), "-o", str(tmp_path / "out")]
    assert run([*command, "--coarse-from", str(automatic), "--preview"]) == 0
    assert (tmp_path / "out" / "a.png").is_file()


def test_masks_of_another_model_or_prompt_are_not_taken_for_finished_ones(
    decoder, automatic, tmp_path, capsys
):
    Image.fromarray(make_scene(9, side=64).image).save(tmp_path / "a.png")
    out = tmp_path / "out"
    command = ["predict", str(tmp_path / "a.png"), "-o", str(out), "-m"]
    assert run([*command, str(automatic)]) == 0
    first = (out / "a.png").read_bytes()
    assert run([*command, str(automatic)]) == 0
    assert "finished before" in capsys.readouterr().out
    assert run([*command, str(decoder)]) == 2
    assert "masks in one folder must be of one model" in capsys.readouterr().err
    assert (out / "a.png").read_bytes() == first
    assert run([*command, str(decoder), "--overwrite"]) == 0
    assert run([*command, str(decoder), "--prompt", "null"]) == 2
    assert run([*command, str(tmp_path / "nowhere")]) == 2


def test_an_oracle_run_masks_no_unlabelled_picture(train, tmp_path, capsys):
    oracle = train("oracle", "method=decoder", "geometric.source=oracle")
    Image.fromarray(make_scene(9, side=64).image).save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert run(["predict", str(tmp_path / "a.png"), "-m", str(oracle), "-o", str(out)]) == 2
    assert "must not come from the true mask" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(ConfigError, match="one place"):
        PromptChoice(oracle=True, coarse_from="run")


def test_validation_is_prompted_as_at_inference(decoder):
    """The score that chose the checkpoint is the one that evaluation finds on the same pictures."""
    told = facts(decoder)["facts"]["scores"]["validation"]
    result = evaluate_run(decoder, split="validation")
    assert result.summary["iou"]["mean"] == pytest.approx(told["iou_mean"], abs=1e-6)


def test_other_prompts_are_kept_when_the_model_is_saved(decoder, automatic, tmp_path):
    model = AutoSam.from_pretrained(decoder)
    other = model.prompted_by(oracle=True).save_pretrained(tmp_path / "oracle")
    assert AutoSam.from_pretrained(other).prompt_source == "oracle points"
    assert AutoSam.from_pretrained(decoder).prompt_source == "coarse hsv points"

    class Everywhere:
        name = "coarse everywhere"

        def __call__(self, sample):
            return np.ones(sample.size, bool)

    anywhere = model.prompted_by(coarse=Everywhere())
    prompt = anywhere.predict(make_scene(3, side=64).image).prompt
    assert prompt.source == "coarse everywhere points"
    with pytest.raises(ModelError, match="rule or a trained model to be saved, got 'coarse every"):
        anywhere.save_pretrained(tmp_path / "lost")
