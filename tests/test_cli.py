"""By the door: train, look at the folder, resume, evaluate, predict, all from the command line."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file

from autosam.cli import run


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_sam_folder):
    folder = tmp_path_factory.mktemp("door")
    settings = {
        "data": {
            "synthetic_count": 8,
            "synthetic_side": 64,
            "validation_share": 0.25,
            "test_share": 0.25,
        },
        "sam": {"name": str(tiny_sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
        "train": {"epochs": 3, "batch_size": 2, "warmup_steps": 1, "save_steps": 1},
        "evaluate": {"bootstrap": 50, "worst": 3},
        "cache": {"directory": str(folder / "cache")},
    }
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="module")
def finished(config):
    folder = config.parent / "run"
    assert run(["train", str(config), "-o", str(folder), "--json"]) == 0
    return folder


def test_a_run_holds_everything_that_made_it(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "config.yaml", "split.json", "environment.json", "history.jsonl", "history.csv", "curves.png",
        "best.safetensors", "last.safetensors", "model.safetensors", "config.json",
        "preprocessor_config.json", "README.md",
    }  # fmt: skip
    facts = json.loads((finished / "config.json").read_text())["facts"]
    assert facts["split"]["hash"] == json.loads((finished / "split.json").read_text())["hash"]
    assert facts["environment"]["versions"]["torch"]
    rows = [json.loads(line) for line in (finished / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"loss_bce", "loss_dice", "validation_iou"} <= rows[0].keys()


def test_the_best_weights_are_the_ones_that_ship(finished):
    best, shipped = (load_file(finished / f"{name}.safetensors") for name in ("best", "model"))
    assert all((best[key] == shipped[key]).all() for key in best.keys() | shipped.keys())


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(finished, config):
    before = (finished / "model.safetensors").read_bytes()
    assert run(["train", str(config), "-o", str(finished), "--resume"]) == 0
    assert (finished / "model.safetensors").read_bytes() == before


def test_evaluation_writes_scores_masks_and_plots_and_counts_its_openings(finished, capsys):
    assert run(["evaluate", str(finished), "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    folder = finished / "evaluation" / "test"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json", "per_image.csv", "masks", "histogram.png", "reliability.png", "worst.png",
    }  # fmt: skip
    rows = list(csv.DictReader((folder / "per_image.csv").open()))
    mean = np.mean([float(row["iou"]) for row in rows])
    assert result["summary"]["iou"]["mean"] == pytest.approx(mean)
    assert json.loads((folder / "metrics.json").read_text())["images"] == len(rows) == 2
    opened = len(json.loads((finished / "test_openings.json").read_text()))
    assert run(["evaluate", str(finished)]) == 0
    assert f"opened {opened + 1} times" in capsys.readouterr().err


def test_saved_masks_give_the_reported_score_again(finished, capsys):
    from sklearn.metrics import jaccard_score

    from autosam.data.synthetic import SyntheticDataset

    assert run(["evaluate", str(finished)]) == 0
    folder = finished / "evaluation" / "test"
    scenes = {scene.name: scene for scene in SyntheticDataset(8, side=64)}
    for row in csv.DictReader((folder / "per_image.csv").open()):
        mask = np.asarray(Image.open(folder / "masks" / f"{row['name']}.png")) > 0
        truth = scenes[row["name"]].mask
        empty = not (mask | truth).any()
        expected = 1.0 if empty else jaccard_score(truth.ravel(), mask.ravel(), zero_division=0)
        assert float(row["iou"]) == pytest.approx(expected)


def test_judging_elsewhere_does_not_open_the_test_part(finished, tmp_path, capsys):
    from autosam.data.synthetic import make_scene

    for name in ("images", "masks"):
        (tmp_path / "rivers" / name).mkdir(parents=True)
    for seed in range(3):
        scene = make_scene(100 + seed, side=48)
        Image.fromarray(scene.image).save(tmp_path / "rivers" / "images" / f"{seed}.png")
        Image.fromarray(scene.mask).save(tmp_path / "rivers" / "masks" / f"{seed}.png")
    path = finished / "test_openings.json"
    before = path.read_text() if path.exists() else None
    arguments = [
        "evaluate",
        str(finished),
        "--data",
        str(tmp_path / "rivers"),
        "--group-by",
        "[01]|2",
    ]
    assert run([*arguments, "-o", str(tmp_path / "out"), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["groups"]) == {"0", "1", "2"}
    assert (path.read_text() if path.exists() else None) == before


def pictures(folder: Path) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, size in {"wide": (30, 70), "tall": (70, 30), "thin": (50, 1)}.items():
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
    return folder


def test_pictures_of_any_shape_are_masked_at_their_own_size(finished, tmp_path, capsys):
    folder, output = pictures(tmp_path / "p"), tmp_path / "masks"
    arguments = ["predict", str(folder), "-m", str(finished), "-o", str(output)]
    assert run([*arguments, "--dry-run"]) == 0
    assert not output.exists()
    assert run([*arguments, "--preview", "--probability"]) == 0
    for path in folder.iterdir():
        assert Image.open(output / path.name).size == Image.open(path).size
    assert len(list(output.iterdir())) == 9


def maker_of(mask: Path) -> PngInfo:
    words = PngInfo()
    words.add_text("autosam", Image.open(mask).info["autosam"])
    return words


def test_finished_masks_are_skipped_unless_asked_for(finished, tmp_path, capsys):
    folder, output = pictures(tmp_path / "p"), tmp_path / "masks"
    arguments = ["predict", str(folder), "-m", str(finished), "-o", str(output), "--json"]
    assert run(arguments) == 0
    mask = output / "wide.png"
    Image.new("L", (70, 30), 77).save(mask, pnginfo=maker_of(mask))
    capsys.readouterr()
    assert run(arguments) == 0
    assert {row["status"] for row in json.loads(capsys.readouterr().out)} == {"finished before"}
    assert Image.open(mask).getpixel((0, 0)) == 77
    assert run([*arguments, "--overwrite"]) == 0
    assert Image.open(mask).getpixel((0, 0)) != 77


@pytest.mark.parametrize("spoil", ["cut", "empty", "other size", "older than the picture"])
def test_a_mask_that_cannot_be_the_pictures_is_made_again(finished, tmp_path, capsys, spoil):
    folder, output = pictures(tmp_path / "p"), tmp_path / "masks"
    arguments = ["predict", str(folder), "-m", str(finished), "-o", str(output), "--json"]
    assert run(arguments) == 0
    mask = output / "wide.png"
    whole = mask.read_bytes()
    if spoil == "other size":
        Image.new("L", (9, 9)).save(mask, pnginfo=maker_of(mask))
    elif spoil == "older than the picture":
        os.utime(mask, (1, 1))
    else:
        mask.write_bytes(whole[: whole.index(b"IDAT") + 6 if spoil == "cut" else 0])
    capsys.readouterr()
    assert run(arguments) == 0
    statuses = {row["source"][-8:]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert statuses["wide.png"] == "written"
    assert statuses["tall.png"] == "finished before"
    assert mask.read_bytes() == whole


def test_a_mask_by_hand_is_not_written_over(finished, tmp_path, capsys):
    folder, output = pictures(tmp_path / "p"), tmp_path / "own"
    output.mkdir()
    Image.new("L", (100, 100), 128).save(output / "wide.png")
    before = (output / "wide.png").read_bytes()
    arguments = ["predict", str(folder), "-m", str(finished), "-o", str(output)]
    assert run(arguments) == 2
    assert "output must be new or autosam's own" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["wide.png"]
    assert (output / "wide.png").read_bytes() == before
    assert run([*arguments, "--overwrite"]) == 0


def test_extras_that_were_not_asked_for_before_are_made(finished, tmp_path):
    folder, output = pictures(tmp_path / "p"), tmp_path / "masks"
    arguments = ["predict", str(folder), "-m", str(finished), "-o", str(output)]
    assert run(arguments) == 0
    assert run([*arguments, "--preview"]) == 0
    assert len(list(output.glob("*.preview.jpg"))) == 3


def test_a_path_that_is_not_there_fails_alone(finished, tmp_path, capsys):
    folder, output = pictures(tmp_path / "p"), tmp_path / "masks"
    sources = [str(folder / "wide.png"), str(folder / "none.png"), str(folder / "tall.png")]
    assert run(["predict", *sources, "-m", str(finished), "-o", str(output), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in rows] == ["written", "written", "failed"]
    assert rows[2]["source"] == sources[1]


def test_an_evaluation_that_cannot_be_written_is_no_opening(finished, tmp_path):
    path = finished / "test_openings.json"
    before = path.read_text() if path.exists() else None
    (tmp_path / "file").write_text("x")
    assert run(["evaluate", str(finished), "-o", str(tmp_path / "file")]) == 2
    assert run(["evaluate", str(finished), "--group-by", "(["]) == 2
    assert (path.read_text() if path.exists() else None) == before


def test_embedding_first_leaves_nothing_for_training_to_encode(config, capsys):
    assert run(["embed", str(config), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(["embed", str(config), "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert first["written"] + first["reused"] == 8
    assert (second["written"], second["reused"]) == (0, 8)


def test_info_tells_of_a_run_and_of_the_installation(finished, capsys):
    assert run(["info", str(finished), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["method"] == "autosam"
    assert told["decision"]["threshold"] > 0
    assert run(["info"]) == 0
    assert "embedding_cache" in capsys.readouterr().out


def test_the_leak_report_has_the_published_figures(shared_data, capsys):
    names = shared_data / "elwha_names"
    arguments = ["--names", f"{names}/useful.txt", "--holdout", f"{names}/validation.txt", "--json"]
    assert run(["splits", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    keys = ("same_cell", "neighbour_same_date", "same_or_neighbour", "holdout")
    assert [told[key] for key in keys] == [172, 150, 226, 226]


@pytest.mark.parametrize("kind", ["blocked", "by-date", "grouped"])
def test_splits_of_the_elwha_names_can_be_made_and_written(shared_data, tmp_path, capsys, kind):
    names = shared_data / "elwha_names" / "useful.txt"
    arguments = ["splits", "--names", str(names), "--kind", kind, "-o", str(tmp_path / "s.json")]
    assert run(arguments) == 0
    assert kind in capsys.readouterr().out
    split = json.loads((tmp_path / "s.json").read_text())
    assert split["train"]
    assert split["validation"]
    assert split["test"]
    if kind == "blocked":
        assert {name[6:8] for name in split["train"]} == {"LR"}
        assert {name[6:8] for name in split["test"]} == {"MR"}


@pytest.mark.parametrize(
    "method", ["autosam+decoder", "decoder-null", "scratch", "unet", "threshold"]
)
def test_every_method_trains_evaluates_and_predicts_alike(config, tmp_path, method, capsys):
    folder = tmp_path / "run"
    settings = ["--set", f"method={method}", "--set", "train.epochs=1"]
    assert run(["train", str(config), "-o", str(folder), *settings]) == 0
    capsys.readouterr()
    assert run(["evaluate", str(folder), "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["summary"]["iou"]["mean"] <= 1
    source = pictures(tmp_path / "p")
    assert run(["predict", str(source), "-m", str(folder), "-o", str(tmp_path / "masks")]) == 0


def test_settings_can_be_shown(capsys, config):
    assert run(["config"]) == 0
    assert capsys.readouterr().out.startswith("# Every setting")
    assert run(["config", str(config), "--set", "seed=7"]) == 0
    assert "seed: 7" in capsys.readouterr().out


def test_ctrl_c_says_that_one_can_go_on(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("autosam.recipes.mapping.map_rasters", interrupted)
    assert run(["map", "a.tif", "-o", "masks"]) == 130
    assert capsys.readouterr().err == (
        "autosam: stopped. What was finished is kept; run again to go on.\n"
    )


def test_the_version_is_the_packages(capsys):
    import autosam

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == autosam.__version__


def test_the_doctor_finds_this_machine_well(capsys):
    assert run(["doctor", "--json"]) == 0
    findings = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert all(row["well"] for row in findings.values())
    assert findings["learning"]["detail"].startswith("loss on four scenes from")


@pytest.fixture
def bright_and_dark(tmp_path):
    """A georeferenced raster, and one that is cut short."""
    import rasterio
    from rasterio.transform import from_origin

    folder = tmp_path / "orthos"
    folder.mkdir()
    picture = np.full((3, 64, 96), 200, np.uint8)
    picture[:, :, 40:60] = 40
    with rasterio.open(
        folder / "whole.tif", "w", driver="GTiff", height=64, width=96, count=3, dtype="uint8",
        crs="EPSG:32610", transform=from_origin(500000, 5300000, 0.5, 0.5),
    ) as raster:  # fmt: skip
        raster.write(picture)
    (folder / "short.tif").write_bytes((folder / "whole.tif").read_bytes()[:60])
    return folder


def test_map_goes_on_past_a_raster_that_fails_and_writes_polygons_of_the_others(
    bright_and_dark, tmp_path, capsys
):
    masks = tmp_path / "masks"
    code = run(["map", str(bright_and_dark), "-o", str(masks), "--vector", "gpkg"])
    said = capsys.readouterr()
    assert code == 1
    assert "short.tif: failed: raster must be whole" in said.out
    assert (masks / "whole.gpkg").is_file()
    assert not (masks / "short.tif").exists()
    assert "Traceback" not in said.out + said.err


def test_polygons_and_probability_of_an_older_mask_do_not_pass_for_the_new_ones(
    bright_and_dark, tmp_path, capsys
):
    whole, masks = str(bright_and_dark / "whole.tif"), tmp_path / "masks"
    options = ["--vector", "gpkg", "--probability", "uint8"]
    assert run(["map", whole, "-o", str(masks), *options]) == 0
    assert (masks / "whole.probability.tif").is_file()
    assert run(["map", whole, "-o", str(masks), "--threshold", "0.01", "--nodata", "nan"]) == 0
    assert not (masks / "whole.probability.tif").exists()
    assert "whole.gpkg: is of another mask" in capsys.readouterr().out


def test_map_writes_everything_of_a_raster_beside_one_that_lies_off_the_earth(
    bright_and_dark, tmp_path, capsys
):
    import rasterio

    (bright_and_dark / "first.tif").write_bytes((bright_and_dark / "whole.tif").read_bytes())
    with rasterio.open(bright_and_dark / "first.tif", "r+") as raster:
        raster.crs = "EPSG:4326"
    masks = tmp_path / "masks"
    options = ["--vector", "gpkg", "--preview", "--json"]
    assert run(["map", str(bright_and_dark), "-o", str(masks), *options]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in rows] == ["written", "failed", "written"]
    assert "coordinates must lie on the earth in WGS 84" in rows[0]["error"]
    assert {path.name for path in masks.iterdir()} >= {"whole.gpkg", "whole.preview.jpg"}


def test_polygons_that_a_killed_run_left_behind_are_made_again(bright_and_dark, tmp_path):
    import geopandas

    whole, masks = str(bright_and_dark / "whole.tif"), tmp_path / "masks"
    again = ["map", whole, "-o", str(masks), "--threshold", "0.01"]
    assert run(["map", whole, "-o", str(masks), "--vector", "gpkg"]) == 0
    first = geopandas.read_file(masks / "whole.gpkg").area.sum()
    assert run(again) == 0
    assert run([*again, "--vector", "gpkg"]) == 0
    assert geopandas.read_file(masks / "whole.gpkg").area.sum() > first


def test_an_unknown_kind_of_polygons_is_refused_before_anything_is_masked(
    bright_and_dark, tmp_path, capsys
):
    masks = tmp_path / "masks"
    assert run(["map", str(bright_and_dark), "-o", str(masks), "--vector", "shp"]) == 2
    assert "--vector must be gpkg" in capsys.readouterr().err
    assert not masks.exists()
