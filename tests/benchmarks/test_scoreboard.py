"""The scoreboard: rows that can be recomputed, failures that are shown, splits that do not leak."""

import dataclasses
import itertools
import json
import sys

import cv2
import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from autosam.data.manifests import Split
from autosam.data.sources import open_data
from autosam.data.splits import leak_report
from autosam.errors import ConfigError, DataError
from autosam.files import write_json
from autosam.types import Sample
from benchmarks import gallery, tables
from benchmarks.scoreboard.board import (
    Budget,
    cells_of,
    check_results,
    check_settings,
    gather,
    prepare,
    run_all,
    strata_of_test,
)
from benchmarks.scoreboard.cells import configuration, run_cell, write_failure
from benchmarks.scoreboard.flattering import column_f1, whole_pixel_dice
from benchmarks.scoreboard.methods import choose_methods, foreign_method, read_methods
from benchmarks.scoreboard.records import check_record, read_record
from benchmarks.scoreboard.sites import by_site, site_of
from benchmarks.scoreboard.statistics import difference, lines_of, sign_flip_p, summary
from benchmarks.scoreboard.strata import strata_of
from benchmarks.scoreboard.suites import SuiteChoice, open_suite

METHODS = ("threshold", "otsu", "random-forest", "autosam", "decoder-points")
BUDGET = Budget(steps=2, seeds=1, side=64, weights="")


class Bright:
    """Somebody else's model: no training, water is what is bright."""

    def __call__(self, image):
        return image.mean(axis=2) / 255


class OutOfRange:
    """One that breaks the contract."""

    def __call__(self, image):
        return image.mean(axis=2)


@pytest.fixture(scope="module")
def board(tmp_path_factory, tiny_sam_folder):
    """A whole suite, tiny, with a foreign model, run in this process."""
    out = tmp_path_factory.mktemp("board")
    sam = str(tiny_sam_folder)
    suite = open_suite(
        SuiteChoice(name="synthetic", pictures=12, scratch=out, sam=sam, scene_side=96)
    )
    methods = choose_methods(METHODS, [foreign_method(f"{__name__}:Bright")])
    prepare(suite, out, resume=False)
    cells = list(cells_of(suite, methods, BUDGET, out))
    for cell in cells:
        run_cell(cell, out)
    return suite, cells, out


@pytest.fixture(scope="module")
def result(board):
    suite, cells, out = board
    return gather(suite, cells, out, BUDGET, strata_of_test(suite))


def test_a_whole_table_is_recomputed_from_the_masks_alone(board, result):
    suite, cells, out = board
    samples = {s.name: s for s in open_data(suite.data).samples}
    for line in lines_of(result):
        folder = next(c for c in cells if c.method.name == line.method).folder(out)
        masks = folder / "judged" / line.source.replace(" ", "-") / "masks"
        scores = []
        for name in suite.folds[0].split.test:
            mask = cv2.imread(str(masks / f"{name}.png"), cv2.IMREAD_GRAYSCALE) > 0
            truth = samples[name].mask
            if truth.any():
                scores.append(jaccard_score(truth.ravel(), mask.ravel(), zero_division=0))
        found = summary(line, "iou", result["blocks"])
        assert found.mean == pytest.approx(np.mean(scores), abs=2e-5)
        assert found.count == len(scores) > 0


def test_every_method_and_source_is_a_row_and_the_oracle_is_called_one(result):
    lines = lines_of(result)
    labels = [line.label for line in lines]
    assert {*METHODS, "Bright"} - {"decoder-points"} <= {*labels}
    sources = {line.source for line in lines if line.method == "decoder-points"}
    assert sources == {"null", "full box", "coarse", "own model", "oracle"}
    assert [line.label for line in lines if line.is_oracle] == ["decoder-points, *oracle*"]


def test_a_result_holds_no_path_of_a_machine_and_no_number_that_is_not_finite(
    board, result, tmp_path
):
    write_json(tmp_path / "result.json", result)
    text = (tmp_path / "result.json").read_text()
    assert str(board[2]) not in text
    json.loads(text, parse_constant=lambda word: pytest.fail(word))


def test_the_split_of_every_cell_is_the_folds_and_the_test_part_was_opened_once(board):
    suite, cells, out = board
    for cell in cells:
        record = read_record(cell.folder(out))
        assert record["split"] == suite.folds[0].split.hash
        opened = [judgement["openings"] for judgement in record["judgements"]]
        assert opened == list(range(1, len(opened) + 1)) or set(opened) == {1}


def test_what_was_done_is_kept_and_what_fails_is_a_row(board, monkeypatch):
    suite, cells, out = board
    broken = foreign_method(f"{__name__}:OutOfRange")
    monkeypatch.setenv("PYTHONPATH", str(__import__("pathlib").Path(__file__).parent))
    broken = dataclasses.replace(broken, adapter="test_scoreboard:OutOfRange")
    more = list(cells_of(suite, [broken], BUDGET, out))
    said = []
    run_all([*cells[:2], *more], out, BUDGET, say=said.append)
    assert [line.rpartition(": ")[2] for line in said[:2]] == ["kept", "kept"]
    assert "FAILED" in said[2]
    assert "must give (height, width)" in said[2]
    result = gather(suite, [*cells, *more], out, BUDGET, strata_of_test(suite))
    failed = next(line for line in lines_of(result) if line.method == "OutOfRange")
    assert (failed.done, failed.failed) == (0, 1)
    assert "OutOfRange, seed 0: ValueError" in tables.failures(result)
    assert "1 FAILED" in tables.main_table(result, lines_of(result))


def test_a_cell_that_takes_too_long_is_a_failure(board):
    suite, _, out = board
    cell = next(cells_of(suite, choose_methods(["unet"]), BUDGET, out))
    said = []
    run_all([cell], out, dataclasses.replace(BUDGET, minutes=1e-4), say=said.append)
    assert "FAILED, took longer than 0.0001 minutes" in said[0]


def test_a_folder_of_another_run_is_refused(board):
    suite, _, out = board
    with pytest.raises(ConfigError, match="--out must be new"):
        prepare(suite, out, resume=False)
    prepare(suite, out, resume=True)
    fold = suite.folds[0]
    name = fold.split.test[0]
    other = dataclasses.replace(fold.split, hashes={**fold.split.hashes, name: "0" * 64})
    changed = dataclasses.replace(suite, folds=(dataclasses.replace(fold, split=other),))
    with pytest.raises(ConfigError, match="same pictures and division"):
        prepare(changed, out, resume=True)


def test_cells_of_another_budget_are_not_kept(board):
    suite, cells, out = board
    for cell in cells:
        write_json(cell.folder(out) / "request.json", cell.to_json())
    check_settings(cells, out)
    for changed, said in (
        ({"steps": 7}, "steps 7 for 2"),
        ({"side": 96}, "values.prompt.side 96 for 64"),
    ):
        others = cells_of(
            suite, choose_methods(METHODS), dataclasses.replace(BUDGET, **changed), out
        )
        with pytest.raises(ConfigError, match=said):
            check_settings(list(others), out)


def test_a_division_that_swaps_parts_is_refused(board):
    suite, _, out = board
    fold = suite.folds[0]
    swapped = dataclasses.replace(fold.split, train=fold.split.test, test=fold.split.train)
    changed = dataclasses.replace(suite, folds=(dataclasses.replace(fold, split=swapped),))
    with pytest.raises(ConfigError, match="same pictures and division"):
        prepare(changed, out, resume=True)


@pytest.mark.parametrize("count", [3, 4, 6, 15, 30, 60])
def test_every_share_of_the_pictures_gets_the_same_steps(board, count):
    _, cells, out = board
    cell = dataclasses.replace(next(c for c in cells if c.method.name == "autosam"), steps=60)
    names = tuple(f"p{number}" for number in range(count))
    config = configuration(
        cell, out / "split.json", Split(kind="grouped", train=names, validation=(), test=())
    )
    batches = max(1, count // config.train.batch_size)  # a short last batch is left out
    assert abs(config.train.epochs * batches - 60) <= batches / 2


def test_results_of_others_and_rows_that_would_be_lost_are_refused(board, result, tmp_path):
    suite, cells, _ = board
    check_results(tmp_path / "new.json", suite, cells)
    write_json(tmp_path / "board.json", result)
    check_results(tmp_path / "board.json", suite, cells)
    with pytest.raises(ConfigError, match="which holds 'threshold' beyond"):
        check_results(tmp_path / "board.json", suite, cells[1:])
    (tmp_path / "thesis.md").write_text("mine")
    with pytest.raises(ConfigError, match="which is something else"):
        check_results(tmp_path / "thesis.md", suite, cells)


def test_an_earlier_failure_is_not_told_again(board, monkeypatch, tmp_path):
    suite, _, out = board
    cell = next(cells_of(suite, choose_methods(["segformer"]), BUDGET, out))
    cell.folder(out).mkdir(parents=True, exist_ok=True)
    write_failure(cell, out, "an old error")
    monkeypatch.setattr("benchmarks.scoreboard.board.sys.executable", "/bin/false")
    said = []
    run_all([cell], out, BUDGET, say=said.append)
    assert "its process ended with 1" in said[0]


def test_divisions_of_the_same_pictures_are_not_put_into_one_mean(result, tmp_path):
    blocked = [{**cell, "fold": "blocked"} for cell in result["cells"]]
    both = {**result, "cells": [*result["cells"], *blocked], "wanted": 2 * result["wanted"]}
    assert tables.divides_anew(both)
    assert not tables.divides_anew(result)
    text = tables.report(both, tmp_path, stem="both")
    assert text.count("every method, division ") == 2
    assert "every method\n" not in text
    assert (tmp_path / "both--blocked--iou.png").is_file()


def test_what_cannot_be_a_fair_run_is_refused(tmp_path):
    choice = SuiteChoice(name="synthetic", pictures=12, scratch=tmp_path, sam="base", scene_side=96)
    assert "what pictures it has seen is not known" in open_suite(choice).note
    seen = SuiteChoice(name="rivers", data=tmp_path, sam="river-nano")
    with pytest.raises(ConfigError, match="--sam must not have seen the pictures"):
        open_suite(seen)
    with pytest.raises(ConfigError, match="must name autosam too"):
        choose_methods(["decoder-points"])
    for budget in ({"seeds": 0}, {"steps": -3}, {"minutes": 0}):
        with pytest.raises(ConfigError, match=f"--{next(iter(budget))} must be"):
            Budget(**budget)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 99}, "must be of version 1"),
        ({"blocks": {}}, "must give the site of every picture"),
        ({"pictures": "photos"}, "real or synthetic"),
        ({"score_names": "missing"}, "must have score_names"),
        ({"cells": "twice"}, "each cell once"),
    ],
)
def test_a_result_that_was_tampered_with_is_refused(result, tmp_path, change, said):
    if change == {"cells": "twice"}:
        change = {"cells": [*result["cells"], result["cells"][0]]}
    write_json(tmp_path / "bad.json", {**result, **change})
    with pytest.raises(DataError, match=said):
        tables.read_result(tmp_path / "bad.json")


def test_tables_and_figures_are_made_from_the_file_alone(result, tmp_path, monkeypatch):
    path = tmp_path / "board.json"
    write_json(path, result)
    monkeypatch.setattr(sys, "argv", ["tables", str(path), "-o", str(tmp_path / "tables")])
    said = []
    tables.main(said.append)
    text = (tmp_path / "tables" / "board.md").read_text()
    assert "**DRAWN scenes, no rivers.**" in text
    assert "| decoder-points |" in text
    assert "*oracle*" in text
    for name in ("iou", "cost", "histogram"):
        picture = cv2.imread(str(tmp_path / "tables" / f"board--{name}.png"))
        assert name == "histogram" or picture.std() > 5  # too few pictures for a histogram
        if name == "histogram":
            assert picture is None


def test_a_file_that_is_no_result_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match=r"result must be of python -m benchmarks\.accuracy"):
        tables.read_result(tmp_path / "other.json")


def row(name, **scores):
    from benchmarks.scoreboard.records import SCORES

    return {"name": name, "mask_file": f"{name}.png", **dict.fromkeys(SCORES), **scores}


def record(*rows, source="learnt", oracle=False):
    judgement = {
        "source": source, "is_oracle": oracle, "prompt": None, "rows": list(rows), "ece": 0.1,
        "reliability": [], "openings": 1, "milliseconds": 1.0,
    }  # fmt: skip
    return {
        "version": 1, "status": "done", "suite": "s", "pictures": "real", "fold": "f", "method": "m",
        "seed": 0, "has_seen": False, "split": "h", "data": "d", "counts": {}, "sam": None, "config": {},
        "training": {}, "judgements": [judgement], "wall_seconds": 1.0, "cpu_seconds": 1.0,
        "peak_memory_mb": 1, "environment": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: record(row("a", iou=float("nan"))), "iou as a finite number or null, got nan"),
        (lambda: record(row("a"), row("a")), "judge each picture once, got 2 rows for 1 pictures"),
        (lambda: record(row("a"), source="oracle"), "call prompts from the true mask an oracle"),
        (lambda: record(row("a"), oracle=True), "call prompts from the true mask an oracle"),
        (lambda: {**record(row("a")), "seed": "0"}, "must have seed of its kind, got '0'"),
        (lambda: {k: v for k, v in record().items() if k != "split"}, "must have split"),
        (lambda: {**record(), "wall_seconds": float("inf")}, "finite wall_seconds"),
        (lambda: {"status": "failed", "version": 1}, "must have suite"),
    ],
)
def test_a_record_that_does_not_say_all_is_refused(wrong, message):
    check_record(record(row("a", iou=0.5)))
    with pytest.raises(DataError, match=message):
        check_record(wrong())


def result_of(scores):
    """method -> picture -> IoU, as a result with one site for each first letter."""
    cells = [
        {
            **record(*(row(name, iou=iou, water_share=0.2) for name, iou in pictures.items())),
            "method": method,
        }
        for method, pictures in scores.items()
    ]
    from benchmarks.scoreboard.board import compact
    from benchmarks.scoreboard.records import SCORES

    names = next(iter(scores.values()))
    return {
        "score_names": list(SCORES),
        "cells": [compact(cell) for cell in cells],
        "blocks": {name: name[0] for name in names},
    }


def test_differences_are_paired_and_their_interval_is_over_sites():
    ours = {"a1": 0.9, "a2": 0.8, "b1": 0.4, "c1": 0.6}
    result = result_of({"ours": ours, "theirs": {name: iou - 0.1 for name, iou in ours.items()}})
    first, second = lines_of(result)
    found = difference(first, second, "iou", result["blocks"])
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (found.blocks, found.pictures, found.p) == (3, 4, None)


def test_the_sign_flip_test_equals_counting_by_hand():
    gains = np.array([0.3, 0.2, 0.1, 0.25, -0.05, 0.15])
    owner = ["a", "b", "c", "d", "e", "f"]
    larger = [
        abs(np.dot(signs, gains)) >= abs(gains.sum()) - 1e-12
        for signs in itertools.product((1, -1), repeat=6)
    ]
    assert sign_flip_p(gains, owner) == pytest.approx(np.mean(larger))
    assert sign_flip_p(np.repeat(gains, 2), np.repeat(owner, 2)) == pytest.approx(np.mean(larger))


def test_failures_and_dry_pictures_do_not_enter_the_mean():
    result = result_of({"ours": {"a1": 0.4, "b1": 1.0}})
    cell = result["cells"][0]
    share = result["score_names"].index("water_share")
    cell["judgements"][0]["rows"]["b1"][share] = 0.0
    result["cells"].append({"status": "failed", "method": "ours", "error": "x", "seed": 1})
    (line,) = lines_of(result)
    assert summary(line, "iou", result["blocks"]).mean == pytest.approx(0.4)
    assert (line.done, line.failed) == (1, 1)


def test_the_published_f1_is_scikit_learns_on_two_dimensional_masks():
    generator = np.random.default_rng(0)
    truth = np.zeros((256, 256), bool)
    truth[100:180] = True
    predicted = truth.copy()
    predicted[:, 140:] = False  # half of the river is missed
    predicted |= generator.random(truth.shape) < 0.02
    published = f1_score(
        predicted.astype(int), truth.astype(int), average="weighted", zero_division=0
    )
    assert column_f1(predicted, truth) == pytest.approx(published)
    true_f1 = f1_score(truth.ravel(), predicted.ravel())
    assert column_f1(truth & predicted, truth) > 0.98 > true_f1 + 0.2


def test_the_published_dice_leaves_out_the_pixels_that_a_reduction_makes_fractional():
    truth = np.zeros((512, 512), bool)
    truth[101:301] = True
    wide = np.zeros_like(truth)
    wide[100:302] = True  # a pixel too much on each side, all of it fractional
    assert whole_pixel_dice(wide, truth) == 1.0
    assert whole_pixel_dice(~truth, truth) == 0.0
    assert whole_pixel_dice(np.zeros_like(truth), np.zeros_like(truth)) == 1.0


def test_strata_are_what_one_sees():
    image, mask = np.full((100, 200, 3), 120, np.uint8), np.zeros((100, 200), bool)
    assert strata_of(Sample(name="dry", image=image, mask=mask)) == {
        "light": "open", "water share": "none",
    }  # fmt: skip
    mask[40:44, 20:100] = True
    assert strata_of(Sample(name="brook", image=image, mask=mask)) == {
        "light": "open", "water share": "below 10 %", "border": "inside", "width": "narrow",
    }  # fmt: skip
    mask[30:80] = True
    image[:40] = 20
    assert strata_of(Sample(name="river", image=image, mask=mask)) == {
        "light": "shaded", "water share": "above 40 %", "border": "touches", "width": "wide",
    }  # fmt: skip


def test_frames_of_one_place_are_one_site():
    assert site_of("st_marguerite_dense/x") == site_of("st_marguerite_sparse/y")
    assert site_of("woodland_creek/x") == site_of("dry_land/caliterra_IMG_1") == "autumn_wood"
    assert site_of("dry_land/garfield_1") == "dry_land"
    assert by_site(["b/1", "a/2", "a/1"]) == {"a": ["a/1", "a/2"], "b": ["b/1"]}


def test_a_drawn_corridor_leaks_under_the_published_split_and_not_under_blocks(tmp_path):
    suite = open_suite(SuiteChoice(name="corridor", pictures=8, scratch=tmp_path))
    leaks = {
        fold.name: leak_report(fold.split.train, fold.split.test).to_dict() for fold in suite.folds
    }
    assert set(leaks) == {"published", "by-date", "blocked"}
    assert leaks["published"]["same_cell"] == leaks["published"]["holdout"] > 0
    assert leaks["by-date"]["same_cell"] == leaks["by-date"]["holdout"] > 0
    assert leaks["blocked"]["same_or_neighbour"] == 0


def test_no_site_is_on_both_sides_and_elwha_is_never_trained_on(shared_data, tmp_path):
    choice = SuiteChoice(name="rivers", data=shared_data, scratch=tmp_path, pictures=2, folds=3)
    suite = open_suite(choice)
    tested = []
    for fold in suite.folds:
        split = fold.split
        assert split.train
        assert split.validation
        learnt = {*split.train, *split.validation}
        assert not {site_of(n) for n in learnt} & {site_of(n) for n in split.test}
        assert not {"elwha", "elwha_thermal"} & {name.split("/")[0] for name in learnt}
        assert set(split.hashes) == set(split.names)
        tested += split.test
    assert len(tested) == len(set(tested))
    assert {"elwha", "elwha_mouth"} < {site_of(name) for name in tested}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_methods(["unett"]), "Did you mean 'unet'"),
        (lambda: foreign_method("nowhere:Model"), "must be module:Class that can be imported"),
        (lambda: foreign_method("numpy"), "a class with __call__"),
        (lambda: foreign_method("numpy:pi"), "a class with __call__"),
        (lambda: open_suite(SuiteChoice(name="river")), "Did you mean 'rivers'"),
        (lambda: open_suite(SuiteChoice(name="rivers")), "must have the folder of the real"),
    ],
)
def test_what_cannot_be_run_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_names_are_unique_and_every_study_has_rows():
    methods = read_methods()
    names = [method.name for method in methods]
    assert len(names) == len(set(names))
    for study in ("main", "prompts", "data", "noise", "networks", "refine", "splits"):
        assert choose_methods([study])
    assert [m.name for m in choose_methods(["autosam@*"])] == [
        "autosam@5%", "autosam@10%", "autosam@25%", "autosam@50%",
    ]  # fmt: skip


def test_masks_that_agree_against_their_label_come_first_in_the_gallery():
    water = np.zeros((8, 8), bool)
    water[:4] = True
    image = np.full((8, 8, 3), 90, np.uint8)
    agreeing, other = np.roll(water, 4, axis=0), np.eye(8, dtype=bool)

    def shown(label, *masks):
        return gallery.contradiction(Sample(name="a", image=image, mask=label), masks)

    against = shown(water, agreeing, agreeing)
    assert (against.iou, against.agreement, against.weight) == (0, 1, 1)
    assert shown(agreeing, agreeing, agreeing).weight == 0
    assert shown(water, agreeing, other, agreeing).weight < against.weight
    assert shown(water, agreeing) is None
    assert gallery.sheet([against]).ndim == 3


def test_the_gallery_finds_the_masks_that_a_run_kept(board):
    suite, _, out = board
    name = suite.folds[0].split.test[0]
    found = gallery.masks_of(out / suite.name / "scenes", ["autosam", "otsu"], name)
    assert len(found) == 2
    assert found[0].shape == open_data(suite.data).samples.select([name])[0].size
