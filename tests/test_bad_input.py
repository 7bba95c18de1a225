"""What a user can get wrong: one line, exit code 2, nothing left behind."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from autosam.cli import run


def picture(path: Path, size=(40, 48), mode="RGB", value=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(path.name))
    channels = () if mode == "L" else (3,)
    array = generator.integers(0, 256, (*size, *channels), dtype=np.uint8)
    Image.fromarray(array if value is None else np.full_like(array, value)).save(path)
    return path


def dataset(folder: Path, names=("a", "b", "c", "d"), masks=True) -> Path:
    for name in names:
        picture(folder / "images" / f"{name}.png")
        if masks:
            area = np.zeros((40, 48), np.uint8)
            area[10:20] = 255
            path = folder / "masks" / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(area).save(path)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_sam_folder):
    """A finished run of one step, for what comes after training."""
    folder = tmp_path_factory.mktemp("trained")
    settings = tiny_settings(tiny_sam_folder, folder / "cache")
    (folder / "tiny.yaml").write_text(json.dumps(settings))
    assert run(["train", str(folder / "tiny.yaml"), "-o", str(folder / "run")]) == 0
    return folder / "run"


def tiny_settings(sam: Path, cache: Path) -> dict:
    return {
        "data": {
            "synthetic_count": 6,
            "synthetic_side": 48,
            "validation_share": 0.2,
            "test_share": 0.2,
        },
        "sam": {"name": str(sam)},
        "prompt": {"network": "hardnet39ds", "side": 32},
        "train": {"epochs": 1, "batch_size": 2, "warmup_steps": 1},
        "evaluate": {"bootstrap": 20},
        "cache": {"directory": str(cache)},
    }


class Place:
    """A scratch folder, with the makings of a good command in it."""

    def __init__(self, folder: Path, sam: Path, trained: Path) -> None:
        self.folder, self.sam, self.trained = folder, sam, trained
        self.out = folder / "out"
        self.config = folder / "tiny.yaml"
        self.config.write_text(json.dumps(tiny_settings(sam, folder / "cache")))

    def train(self, *settings: str, more=()) -> list[str]:
        pairs = [part for setting in settings for part in ("--set", setting)]
        return ["train", str(self.config), "-o", str(self.out), *pairs, *more]

    def source(self, folder: Path, *settings: str) -> list[str]:
        return self.train(f"data.source=[{folder}]", *settings)

    def predict(self, source, model=None, more=()) -> list[str]:
        return [
            "predict",
            str(source),
            "-m",
            str(model or self.trained),
            "-o",
            str(self.out),
            *more,
        ]

    def copy_run(self) -> Path:
        return shutil.copytree(self.trained, self.folder / "copied-run")

    def copy_sam(self) -> Path:
        return shutil.copytree(self.sam, self.folder / "copied-sam")


@pytest.fixture
def place(tmp_path, tiny_sam_folder, trained):
    return Place(tmp_path, tiny_sam_folder, trained)


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def without(path: Path) -> None:
    path.unlink()


def bad_sam(place, change) -> list[str]:
    sam = place.copy_sam()
    change(sam)
    return place.train(f"sam.name={sam}")


def bad_run(place, change, command=("evaluate",)) -> list[str]:
    folder = place.copy_run()
    change(folder)
    return [*command, str(folder)]


def bad_data(place, change, *settings) -> list[str]:
    folder = dataset(place.folder / "rivers")
    change(folder)
    return place.source(folder, *settings)


def two_sources(place) -> list[str]:
    first = dataset(place.folder / "one" / "rivers")
    second = dataset(place.folder / "two" / "rivers")
    return place.train(f"data.source=[{first}, {second}]")


def manifest(place, change) -> list[str]:
    values = json.loads((place.trained / "split.json").read_text())
    change(values)
    return place.train(f"data.manifest={written(place.folder / 'split.json', json.dumps(values))}")


def list_of(place, *lines) -> str:
    return str(written(place.folder / "names.txt", "\n".join(lines)))


def same_stems(place) -> list[str]:
    picture(place.folder / "p" / "a.png")
    picture(place.folder / "p" / "a.jpg")
    return place.predict(place.folder / "p")


def preview_on_mask(place) -> list[str]:
    picture(place.folder / "p" / "a.png")
    picture(place.folder / "p" / "a.probability.png")
    return place.predict(place.folder / "p", more=["--probability"])


def broken_openings(run_folder: Path) -> None:
    written(run_folder / "test_openings.json", "{}")


def mask_on_picture(place) -> list[str]:
    picture(place.folder / "p" / "a.png")
    return [
        "predict",
        str(place.folder / "p"),
        "-m",
        str(place.trained),
        "-o",
        str(place.folder / "p"),
    ]


def newer_index(place) -> list[str]:
    # Fill a cache, then pretend that a later version of the library wrote it.
    assert run(["embed", str(place.config)]) == 0
    for index in (place.folder / "cache").rglob("*.json"):
        values = json.loads(index.read_text())
        values["version"] = 999
        index.write_text(json.dumps(values))
    return place.train()


CASES = {
    # settings
    "unknown setting": (lambda p: p.train("train.learning_rat=1"), "Did you mean 'learning_rate'"),
    "unknown section": (lambda p: p.train("trian.epochs=1"), "Did you mean 'train'"),
    "unknown method": (lambda p: p.train("method=autosm"), "got 'autosm'. Did you mean 'autosam'"),
    "true for a number": (lambda p: p.train("train.epochs=true"), "whole number, got True"),
    "no epochs": (lambda p: p.train("train.epochs=0"), "train.epochs must be 1 or more, got 0"),
    "rate in words": (lambda p: p.train("train.learning_rate=fast"), "finite number, got 'fast'"),
    "unknown loss": (lambda p: p.train("train.loss={bcd: 1}"), "bcd is not a loss"),
    "three views": (lambda p: p.train("train.views=3"), "train.views must be one of its choices"),
    "odd prompt side": (
        lambda p: p.train("prompt.side=250"),
        "multiple of 16, at least 32, got 250",
    ),
    "share above one": (lambda p: p.train("data.test_share=1.5"), r"in 0\.\.1, got 1.5"),
    "no source": (lambda p: p.train("data.source=[]"), "name at least one source"),
    "missing configuration": (lambda p: ["train", "nowhere.yaml"], "must exist, got nowhere.yaml"),
    "broken configuration": (
        lambda p: ["train", str(written(p.folder / "b.yaml", "train: [1,"))],
        r"b\.yaml must be YAML",
    ),
    "list as configuration": (
        lambda p: ["train", str(written(p.folder / "l.yaml", "- 1"))],
        "got a list",
    ),
    "override without value": (lambda p: p.train("train.epochs"), "--set must be key=value"),
    "unknown tracker": (lambda p: p.train("train.trackers=[wandbb]"), "Did you mean 'wandb'"),
    "half precision on the processor": (lambda p: p.train("train.precision=fp16"), "got 'fp16'"),
    "crop with a cache": (lambda p: p.train("train.crop=0.5"), "train.crop must be 0 with cached"),
    # SAM
    "unknown SAM": (lambda p: p.train("sam.name=bass"), "Did you mean 'base'"),
    "missing SAM folder": (lambda p: p.train("sam.name=./no/sam/here"), "no/sam/here"),
    "another kind of model": (
        lambda p: bad_sam(p, lambda f: written(f / "config.json", '{"model_type": "bert"}')),
        "got model_type 'bert'",
    ),
    "truncated SAM": (
        lambda p: bad_sam(p, lambda f: os.truncate(f / "model.safetensors", 5000)),
        "model.safetensors",
    ),
    "SAM without weights": (
        lambda p: bad_sam(p, lambda f: without(f / "model.safetensors")),
        "must hold model.safetensors",
    ),
    "pickled SAM": (
        lambda p: bad_sam(
            p,
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        ),
        "must be safetensors, got pytorch_model.bin",
    ),
    "garbage for Meta's file": (
        lambda p: p.train(f"sam.name={written(p.folder / 'sam.pth', b'no weights')}"),
        r"sam\.pth",
    ),
    "SAM of the hub, offline": (lambda p: p.train("sam.name=base"), "facebook/sam-vit-base"),
    # prompt network
    "unknown network": (lambda p: p.train("prompt.network=hardnet86"), "Did you mean 'hardnet85'"),
    "network without strides": (
        lambda p: p.train("prompt.network=mixer_s16_224", "prompt.side=224"),
        "mixer_s16_224",
    ),
    "missing backbone weights": (lambda p: p.train("prompt.weights=none.pth"), "none.pth"),
    "garbage backbone weights": (
        lambda p: p.train(f"prompt.weights={written(p.folder / 'w.pth', b'garbage')}"),
        r"w\.pth",
    ),
    "weights that nobody published": (
        lambda p: p.train("prompt.weights=imagenet"),
        "HarDNet's ImageNet weights",
    ),
    # data
    "missing data": (lambda p: p.train("data.source=[no/where/at all]"), "no/where/at all"),
    "image without mask": (
        lambda p: bad_data(p, lambda f: without(f / "masks" / "b.png")),
        "b",
    ),
    "mask without image": (
        lambda p: bad_data(p, lambda f: without(f / "images" / "b.png")),
        "b",
    ),
    "one stem twice": (
        lambda p: bad_data(p, lambda f: picture(f / "images" / "b.jpg")),
        r"b\.(jpg|png)",
    ),
    "mask of another size": (
        lambda p: bad_data(p, lambda f: picture(f / "masks" / "b.png", (20, 20), "L", 255)),
        r"\(20, 20\)|20 x 20",
    ),
    "picture that is none": (
        lambda p: bad_data(p, lambda f: written(f / "images" / "b.png", b"not a picture")),
        r"b\.png",
    ),
    "truncated picture": (
        lambda p: bad_data(p, lambda f: os.truncate(f / "images" / "b.png", 400)),
        r"b\.png",
    ),
    "no pictures": (
        lambda p: (
            (p.folder / "rivers" / "images").mkdir(parents=True),
            p.source(p.folder / "rivers"),
        )[1],
        "images",
    ),
    "no masks": (
        lambda p: p.source(dataset(p.folder / "rivers", masks=False)),
        "must have a mask",
    ),
    "two sources of one name": (two_sources, "sample names must be unique"),
    "published split of a folder": (
        lambda p: bad_data(p, lambda f: None, "data.split=published"),
        "must come with the dataset",
    ),
    "blocked split without tiles": (
        lambda p: bad_data(p, lambda f: None, "data.split=blocked"),
        "Elwha",
    ),
    "group pattern that is none": (
        lambda p: p.train("data.group_by='(['"),
        "must be a regular expression",
    ),
    "group pattern that matches nothing": (
        lambda p: p.train("data.group_by='site'"),
        "must match every sample name",
    ),
    "one group": (lambda p: p.train("data.group_by='^scene'"), "must have 3 groups or more, got 1"),
    "missing manifest": (lambda p: p.train("data.manifest=no.json"), "no.json"),
    "broken manifest": (
        lambda p: p.train(f"data.manifest={written(p.folder / 's.json', '{')}"),
        r"must be JSON, got .*s\.json",
    ),
    "manifest of other data": (
        lambda p: manifest(
            p, lambda v: (v.pop("hash"), v.update(train=["elsewhere"], hashes={}, groups={}))
        ),
        "elsewhere",
    ),
    "edited manifest": (lambda p: manifest(p, lambda v: v["train"].pop()), "hash|hashes"),
    # cache and run folder
    "cache that is a file": (
        lambda p: p.train(f"cache.directory={written(p.folder / 'file', 'x')}"),
        "file",
    ),
    "cache of a newer version": (newer_index, "999|newer"),
    "run folder that is a file": (
        lambda p: ["train", str(p.config), "-o", str(written(p.folder / "f", "x"))],
        "must be a folder, got the file",
    ),
    "run folder in use": (
        lambda p: ["train", str(p.config), "-o", str(written(p.folder / "used" / "x", "x").parent)],
        "new or empty folder",
    ),
    "nothing to resume": (lambda p: p.train(more=["--resume"]), "must find a run"),
    "resuming another run": (
        lambda p: ["train", str(p.config), "-o", str(p.copy_run()), "--resume"],
        "must use the run's own configuration, got cache.directory",
    ),
    # evaluation
    "missing run": (lambda p: ["evaluate", "no/run/here"], "no/run/here"),
    "unknown part": (
        lambda p: ["evaluate", str(p.trained), "--split", "tset"],
        "Did you mean 'test'",
    ),
    "run without checkpoint": (
        lambda p: bad_run(p, lambda f: without(f / "config.json")),
        r"must hold config.json.*--resume",
    ),
    "run without split": (
        lambda p: bad_run(p, lambda f: without(f / "split.json")),
        "must hold split.json",
    ),
    "truncated weights": (
        lambda p: bad_run(p, lambda f: os.truncate(f / "model.safetensors", 3000)),
        "whole safetensors file",
    ),
    "unlabelled data to judge on": (
        lambda p: [
            "evaluate",
            str(p.trained),
            "--data",
            str(dataset(p.folder / "d", masks=False)),
            "-o",
            str(p.out),
        ],
        "mask",
    ),
    "group pattern to judge by": (
        lambda p: ["evaluate", str(p.trained), "--group-by", "([", "-o", str(p.out)],
        "regular expression",
    ),
    # prediction
    "missing picture": (lambda p: p.predict("no/picture.png"), "no/picture.png"),
    "folder without pictures": (lambda p: p.predict(p.folder), "picture|image"),
    "pattern without pictures": (lambda p: p.predict(p.folder / "*.tif"), r"\*\.tif"),
    "missing model": (
        lambda p: p.predict(picture(p.folder / "a.png"), model="no/model/here"),
        "no/model/here",
    ),
    "model on the hub, offline": (
        lambda p: p.predict(picture(p.folder / "a.png"), model="someone/rivers"),
        "someone/rivers",
    ),
    "plain SAM for a model": (
        lambda p: p.predict(picture(p.folder / "a.png"), model=p.sam),
        "not written by autosam",
    ),
    "masks into a file": (
        lambda p: [
            "predict",
            str(picture(p.folder / "a.png")),
            "-m",
            str(p.trained),
            "-o",
            str(written(p.folder / "f", "x")),
        ],
        "must be a folder, got the file",
    ),
    "two pictures, one mask": (same_stems, "must not share a name"),
    "mask on another picture's probability": (preview_on_mask, "must not share a name"),
    "model path that climbs": (
        lambda p: p.predict(picture(p.folder / "a.png"), model="../nowhere"),
        r"an ONNX file or a hub id owner/name, got '\.\./nowhere'",
    ),
    "damaged list of openings": (
        lambda p: bad_run(p, broken_openings, ("info",)),
        "must be a JSON list",
    ),
    "truncated weights of a run to tell of": (
        lambda p: bad_run(p, lambda f: os.truncate(f / "model.safetensors", 3000), ("info",)),
        "whole safetensors file",
    ),
    "folder for a configuration": (lambda p: ["config", str(p.folder)], "got the folder"),
    "mask on a picture": (mask_on_picture, "must not fall on pictures"),
    "unknown device": (
        lambda p: p.predict(picture(p.folder / "a.png"), more=["--device", "tpu9"]),
        "device must be",
    ),
    # splits and the rest
    "missing names": (lambda p: ["splits", "--names", "no.txt", "--kind", "grouped"], "no.txt"),
    "no names": (lambda p: ["splits", "--names", list_of(p, ""), "--kind", "grouped"], "got none"),
    "a name twice": (
        lambda p: ["splits", "--names", list_of(p, "a", "b", "a"), "--kind", "grouped"],
        "got 'a' twice",
    ),
    "unknown kind of split": (
        lambda p: ["splits", "--names", list_of(p, "a"), "--kind", "blockd"],
        "Did you mean 'blocked'",
    ),
    "published without holdout": (
        lambda p: ["splits", "--names", list_of(p, "a")],
        "--holdout must be given",
    ),
    "names that are no tiles": (
        lambda p: ["splits", "--names", list_of(p, "a", "b"), "--kind", "blocked"],
        "Elwha",
    ),
    "info on nothing": (lambda p: ["info", str(p.folder / "none")], "none"),
    "embedding without SAM": (
        lambda p: ["embed", str(p.config), "--set", "method=unet"],
        "frozen image encoder",
    ),
    "unknown command": (lambda p: ["predcit"], "predcit"),
    "unknown option": (lambda p: ["doctor", "--jsn"], "--jsn"),
    "no output named": (lambda p: ["predict", "a.png"], "output"),
}


def without_water(folder: Path) -> None:
    for mask in (folder / "masks").iterdir():
        Image.fromarray(np.zeros((40, 48), np.uint8)).save(mask)


def with_band(folder: Path, size=(40, 48), mode="L", names=("a", "b", "c", "d")) -> None:
    for name in names:
        picture(folder / "nir" / f"{name}.png", size, mode)


def oracle_run(place) -> Path:
    """The trained run, as if its prompts came from the true mask."""
    folder = place.copy_run()
    description = json.loads((folder / "config.json").read_text())
    description["config"] |= {"method": "zero-shot"}
    description["config"]["geometric"] = {"kind": "box", "source": "oracle"}
    description["method"] = "zero-shot"
    (folder / "config.json").write_text(json.dumps(description))
    save_file({}, folder / "model.safetensors")
    return folder


def prompt_sheet(place) -> list[str]:
    return ["prompts", str(place.config), "--set", "method=decoder"]


def numbers_of_somebody(place) -> list[str]:
    (place.folder / "rivers.json").write_text('{"mine": 1}')
    return [*prompt_sheet(place), "-o", str(place.folder / "rivers.png")]


DECODER, BANDED = "method=decoder", "prompt.bands=[nir]"
PROMPT_CASES = {
    # settings of prompts
    "unknown kind of prompt": (lambda p: p.train("geometric.kind=pionts"), "Did you mean 'points'"),
    "points without points": (
        lambda p: p.train("geometric.positive=0"),
        "be 1 or more to prompt with points, got 0",
    ),
    "fewer than no points": (lambda p: p.train("geometric.negative=-1"), r"in 0\.\.100, got -1"),
    "half a box away": (lambda p: p.train("geometric.perturbation=0.5"), r"in 0\.\.0\.5, got 0.5"),
    "unknown fusion": (lambda p: p.train("geometric.fusion=media"), "geometric.fusion"),
    "best by a stale head": (
        lambda p: p.train(DECODER, "geometric.fusion=best"),
        r"got 'best'\. Set train\.iou_head=true",
    ),
    "points for each component": (
        lambda p: p.train(DECODER, "geometric.components=each"),
        "one unless the prompt is a box",
    ),
    "clicks without end": (lambda p: p.train("train.simulated_corrections=99"), "got 99"),
    "a bank of less than nothing": (lambda p: p.train("train.ignore_bank=-1"), "train.ignore_bank"),
    # coarse masks
    "coarse rule that is none": (
        lambda p: p.train(DECODER, "coarse.source=hvs"),
        "hsv, index, thermal or a trained run, got 'hvs'",
    ),
    "coarse run that is no run": (
        lambda p: p.train(DECODER, f"coarse.source={p.sam}"),
        "not written by autosam",
    ),
    "coarse run on the hub, offline": (
        lambda p: p.train(DECODER, "coarse.source=someone/rivers"),
        "someone/rivers",
    ),
    "coarse run that is an oracle": (
        lambda p: p.train(DECODER, f"coarse.source={oracle_run(p)}"),
        "coarse run must not prompt from the true mask",
    ),
    "unknown index": (lambda p: p.train("coarse.index=nwdi"), "Did you mean 'ndwi'"),
    "threshold in words": (lambda p: p.train("coarse.threshold=warm"), "otsu or a number"),
    "components above the picture": (lambda p: p.train("coarse.minimum_area=2"), "minimum_area"),
    "erosion the other way": (lambda p: p.train("coarse.erosions=-2"), r"in 0\.\.50, got -2"),
    "index without its band": (
        lambda p: bad_data(p, lambda f: None, DECODER, "coarse.source=index"),
        "nir",
    ),
    "heat that synthetic scenes have not": (
        lambda p: p.train(DECODER, "coarse.source=thermal"),
        "thermal",
    ),
    "colours of no water": (lambda p: bad_data(p, without_water, DECODER), "water"),
    # bands
    "band without a folder": (lambda p: bad_data(p, lambda f: None, BANDED), "nir"),
    "band that one picture lacks": (
        lambda p: bad_data(p, lambda f: with_band(f, names="abc"), BANDED),
        "d",
    ),
    "band of another size": (
        lambda p: bad_data(p, lambda f: with_band(f, (20, 20)), BANDED),
        r"\(20, 20\)|20 x 20",
    ),
    "band in colours": (
        lambda p: bad_data(p, lambda f: with_band(f, mode="RGB"), BANDED),
        "one channel",
    ),
    "band twice": (lambda p: p.train("prompt.bands=[nir, nir]"), "nir"),
    "band that is a path": (lambda p: p.train("prompt.bands=['../nir']"), "nir"),
    "folder of a band that nothing reads": (
        lambda p: p.predict(picture(p.folder / "a.png"), more=["--band", "nir=here"]),
        "got 'nir'",
    ),
    "band without a folder to look in": (
        lambda p: p.predict(picture(p.folder / "a.png"), more=["--band", "nir"]),
        "NAME=FOLDER, got 'nir'",
    ),
    # prompts of a finished run
    "unknown prompts to judge by": (
        lambda p: ["evaluate", str(p.trained), "--prompt", "boxes", "-o", str(p.out)],
        "other prompts must be for decoder",
    ),
    "an oracle for a method that needs none": (
        lambda p: ["evaluate", str(p.trained), "--oracle", "-o", str(p.out)],
        "got 'autosam', which needs none",
    ),
    "an oracle that is a null": (
        lambda p: ["evaluate", str(p.trained), "--prompt", "null", "--oracle"],
        "must come from no mask",
    ),
    "scores among the labels": (
        lambda p: [
            "evaluate",
            str(p.trained),
            "--data",
            str(dataset(p.folder / "d")),
            "-o",
            str(p.folder / "d" / "masks"),
        ],
        "must lie apart from the data",
    ),
    "a sheet that is a folder": (
        lambda p: [*prompt_sheet(p), "-o", str(p.folder)],
        "must be a PNG file",
    ),
    "clicks for a U-Net": (
        lambda p: p.train("method=unet", "train.simulated_corrections=2"),
        "simulated_corrections must be 0",
    ),
    "an empty name": (lambda p: p.predict(""), "picture must be named"),
    "prompts from two places": (
        lambda p: ["evaluate", str(p.trained), "--oracle", "--coarse-from", str(p.trained)],
        "must come from one place",
    ),
    "prompts from a run that is not there": (
        lambda p: p.predict(picture(p.folder / "a.png"), more=["--coarse-from", "no/run/here"]),
        "no/run/here",
    ),
    "a hundred clicks": (lambda p: ["evaluate", str(p.trained), "--clicks", "100"], "clicks"),
    "masking by an oracle": (
        lambda p: p.predict(picture(p.folder / "a.png"), model=oracle_run(p)),
        "must not come from the true mask",
    ),
    "prompts of a method without": (
        lambda p: ["prompts", str(p.config), "-o", str(p.folder / "p.png")],
        "prompted by points, boxes or masks, got 'autosam'",
    ),
    "a sheet of prompts over a picture of somebody": (
        lambda p: [*prompt_sheet(p), "-o", str(picture(p.folder / "river.png"))],
        r"of an earlier `autosam prompts`, got .*river\.png",
    ),
    "numbers of prompts over somebody's": (
        numbers_of_somebody,
        r"got .*rivers\.json, which is something",
    ),
    "the IoU of a frozen decoder": (
        lambda p: p.train("method=unet", "train.iou_head=true"),
        "must be false for a method whose mask decoder does not train, got true with 'unet'",
    ),
    "losses without a space": (
        lambda p: p.train("train.loss={bootstrap:1,dice:1}"),
        "Write a space after each colon",
    ),
    "bands of a method that reads none": (
        lambda p: p.train(DECODER, BANDED),
        r"whose prompt network reads them, .* got \['nir'\] with 'decoder'",
    ),
    "prompts of no configuration": (lambda p: ["prompts", "nowhere.yaml"], "nowhere.yaml"),
}
CASES |= PROMPT_CASES


def map_of(place, source, *more: str) -> list[str]:
    return ["map", str(source), "-o", str(place.out), *more]


CASES |= {
    "an engine that is none": (
        lambda p: map_of(p, "a.tif", "--engine", "rey"),
        "engine must be one of local, accelerate, ray, got 'rey'.*Did you mean 'ray'",
    ),
    "no workers": (lambda p: map_of(p, "a.tif", "--workers", "0"), "workers must be 1 or more"),
    "workers beside a launcher's": (
        lambda p: map_of(p, "a.tif", "--engine", "accelerate", "--workers", "2"),
        "must be left to the launcher",
    ),
    "STAC that is none": (
        lambda p: map_of(p, written(p.folder / "a.json", '{"type": "Polygon"}')),
        "STAC must be an item",
    ),
    "STAC that is not there": (lambda p: map_of(p, p.folder / "none.json"), "STAC file must exist"),
}


def test_the_tables_are_long_enough():
    assert len(CASES) - len(PROMPT_CASES) >= 45
    assert len(PROMPT_CASES) >= 25


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_with_a_next_step_and_leaves_nothing(name, place, capsys):
    make, message = CASES[name]
    arguments = make(place)
    capsys.readouterr()
    before = {path for path in place.folder.rglob("*") if "cache" not in path.parts}
    assert run(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("autosam: ")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert lines[0].rstrip().endswith((".", "?", "--help", ")", "`"))
    after = {path for path in place.folder.rglob("*") if "cache" not in path.parts}
    assert {path.name for path in after - before} <= set()


def test_one_bad_picture_does_not_stop_the_others(place, capsys):
    folder = place.folder / "p"
    picture(folder / "a.png")
    written(folder / "b.png", b"not a picture")
    picture(folder / "c.png")
    assert run(place.predict(folder, more=["--json"])) == 1
    results = json.loads(capsys.readouterr().out)
    assert [result["status"] for result in results] == ["written", "failed", "written"]
    assert "b.png" in results[1]["error"]
    assert sorted(path.name for path in place.out.iterdir()) == ["a.png", "c.png"]
