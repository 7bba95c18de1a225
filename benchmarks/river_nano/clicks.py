"""Question: how well does the small SAM follow clicks on objects that it never saw?

Objects of the validation and test pictures: water and its components where labelled, stable regions of any
kind elsewhere. The same clicks, chosen as a person would where the mask is most wrong, are given to
GrabCut and to the random walker. The first click is the innermost point of the object, so every click is
an *oracle*.

Run:    python -m benchmarks.river_nano.clicks --data FOLDER --sam FOLDER --out OUT.json [--objects 60]
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from rich.progress import track
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import random_walker

from autosam.data.geometry import normalise
from autosam.evaluation.bootstrap import interval_of_mean
from autosam.files import write_json
from autosam.models.query_decoding import decode_prompts
from autosam.models.sam import Sam, load_sam
from autosam.overlap import mask_iou
from autosam.recipes.environment import environment
from autosam.types import Query, SquarePrompt
from benchmarks.river_nano.objects import draw_objects
from benchmarks.river_nano.promptable import RECIPE
from benchmarks.river_nano.regions import stable_regions
from benchmarks.river_nano.scenes import Scene, labelled_names, random_crop, read_scene

SIDE = 512
COUNTS = (1, 3, 5)
Clicks = list[tuple[int, int, int]]
"""(x, y, label) of each, in pixels of the crop."""
Answer = Callable[[Clicks], np.ndarray]
"""Clicks to a mask, (side, side) bool."""


def held_back_objects(
    data: Path, recipe: Mapping[str, Any], count: int, *, seed: int
) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """(picture, object, kind) of crops that no training saw; half water, half regions."""
    lists = recipe["data"]
    names = [*labelled_names(data, lists, "validation"), *labelled_names(data, lists, "test")]
    generator, found = np.random.default_rng([seed, 9]), []
    order = [names[index] for index in generator.permutation(len(names))]
    for name in track(order * 3, description="Objects", transient=True):
        if len(found) == count:
            break
        scene = read_scene(data, name, longest=lists["longest"])
        wanted = "water" if len(found) % 2 == 0 else "region"
        if wanted == "water" and not (scene.water > 127).any():
            continue
        crop = random_crop(_prepared(scene, wanted), SIDE, generator, water_share=1.0)
        objects = draw_objects(crop, 1, generator)
        if wanted == "water" and (crop.water & crop.valid).mean() < 0.01:
            continue
        if objects:
            area = crop.water & crop.valid if wanted == "water" else objects[0]
            if 0.01 <= area.mean() <= 0.9:
                found.append((crop.image, area, wanted))
    return found


def _prepared(scene: Scene, wanted: str) -> Scene:
    """With regions and without a label, where a region is wanted."""
    if wanted == "water":
        return scene
    return dataclasses.replace(
        scene, valid=np.zeros_like(scene.valid), regions=stable_regions(scene)
    )


def next_click(mask: np.ndarray, target: np.ndarray) -> tuple[int, int, int]:
    """The innermost point of the largest error, and whether the object is there."""
    best = (0.0, 0, 0, 1)
    for wrong, label in ((target & ~mask, 1), (mask & ~target, 0)):
        depth = distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        best = max(best, (float(depth[y, x]), int(x), int(y), label))
    return best[1], best[2], best[3]


def sam_answer(sam: Sam, image: np.ndarray) -> Answer:
    """SAM with the last mask fed back, as a person's corrections are."""
    square = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    with torch.inference_mode():
        embedding = sam.embed(normalise(square, torch.tensor([[SIDE, SIDE]])))
    last: list[torch.Tensor] = []

    @torch.inference_mode()
    def answer(clicks: Clicks) -> np.ndarray:
        query = Query(
            points=np.array([(x, y) for x, y, _ in clicks], float),
            labels=np.array([label for _, _, label in clicks]),
        )
        prompt = SquarePrompt(queries=(query,), mask_logits=last[-1][0, 0] if last else None)
        logits, _ = decode_prompts(sam, embedding, sam.no_mask_embedding(1), [prompt])
        last.append(logits)
        full = torch.nn.functional.interpolate(logits, (SIDE, SIDE), mode="bilinear")
        return (full[0, 0] > 0).numpy()

    return answer


def grabcut_answer(image: np.ndarray) -> Answer:
    """OpenCV's GrabCut, each click a disc of certainty, all else probably land."""

    def answer(clicks: Clicks) -> np.ndarray:
        state = np.full(image.shape[:2], cv2.GC_PR_BGD, np.uint8)
        for x, y, label in clicks:
            cv2.circle(state, (x, y), 24, cv2.GC_PR_FGD if label else cv2.GC_PR_BGD, -1)
        for x, y, label in clicks:
            cv2.circle(state, (x, y), 6, cv2.GC_FGD if label else cv2.GC_BGD, -1)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(image[..., ::-1].copy(), state, None, *models, 4, cv2.GC_INIT_WITH_MASK)
        return np.isin(state, (cv2.GC_FGD, cv2.GC_PR_FGD))

    return answer


def random_walker_answer(image: np.ndarray, *, side: int = 128) -> Answer:
    """scikit-image's random walker on a smaller picture; its frame is land where no click denies it."""
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)

    def answer(clicks: Clicks) -> np.ndarray:
        seeds = np.zeros((side, side), np.int32)
        seeds[[0, -1], :] = seeds[:, [0, -1]] = 2
        for x, y, label in clicks:
            cv2.circle(seeds, (x * side // SIDE, y * side // SIDE), 3, 1 if label else 2, -1)
        labels = random_walker(small / 255.0, seeds, beta=300, mode="cg_j", channel_axis=-1)
        return cv2.resize((labels == 1).astype(np.uint8), (SIDE, SIDE)) > 0

    return answer


def curve(answer: Answer, target: np.ndarray) -> list[float]:
    """IoU after each number of clicks."""
    clicks: Clicks = []
    mask = np.zeros_like(target)
    scores = []
    for _ in range(max(COUNTS)):
        clicks.append(next_click(mask, target))
        mask = answer(clicks)
        scores.append(mask_iou(mask, target))
    return [scores[count - 1] for count in COUNTS]


def summary(scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean with interval after each number of clicks."""
    table = np.asarray(scores)
    blocks = [str(index) for index in range(len(table))]
    return {
        str(count): {
            "mean": float(table[:, column].mean()),
            "interval": interval_of_mean(table[:, column], blocks, resamples=1000, seed=0),
        }
        for column, count in enumerate(COUNTS)
    }


def main() -> None:
    """Click, and write the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the groups")
    parser.add_argument("--sam", required=True, help="'river-nano', or a folder in hub format")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--objects", type=int, default=60)
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    objects = held_back_objects(arguments.data, recipe, arguments.objects, seed=recipe["seed"])
    sam = load_sam(arguments.sam)
    rows = []
    for image, target, kind in track(objects, description="Clicking"):
        answers = {
            "small SAM": sam_answer(sam, image),
            "GrabCut": grabcut_answer(image),
            "random walker": random_walker_answer(image),
        }
        scores = {name: curve(answer, target) for name, answer in answers.items()}
        rows.append({"kind": kind, "iou": scores})
    result = {
        "question": "clicks on held-back objects, oracle",
        "clicks": COUNTS,
        "objects": len(rows),
        "summary": {
            kind: {name: summary([row["iou"][name] for row in chosen]) for name in rows[0]["iou"]}
            for kind in ("water", "region", "all")
            if (chosen := [row for row in rows if kind in ("all", row["kind"])])
        },
        "rows": rows,
        "environment": environment(),
    }
    write_json(arguments.out, result)
    for kind, methods in result["summary"].items():
        for name, found in methods.items():
            print(kind, name, *(f"{n}: {found[str(n)]['mean']:.3f}" for n in COUNTS), sep="  ")


if __name__ == "__main__":
    main()
