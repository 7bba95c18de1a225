"""Scenes with their regions, prepared once and kept beside the run."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.river_nano.regions import stable_regions
from benchmarks.river_nano.scenes import (
    Scene,
    drawn_scene,
    labelled_names,
    read_scene,
    unlabelled_scenes,
)


def training_scenes(data: Path, recipe: Mapping[str, Any], cache: Path) -> list[Scene]:
    """Every picture that may train, with its regions."""
    lists, key = recipe["data"], _key(recipe)
    names = labelled_names(data, lists, "train")
    scenes = [read_scene(data, name, longest=lists["longest"]) for name in names]
    scenes += unlabelled_scenes(data, lists["unlabelled"], longest=lists["longest"])
    drawn = _kept(cache / f"drawn_{key}.npz", lambda: _draw(lists["synthetic"], recipe["seed"]))
    scenes += [
        Scene(name=name, image=array[..., :3], water=array[..., 3].copy(),
              valid=np.full(array.shape[:2], 255, np.uint8), regions=np.zeros(array.shape[:2], np.uint16))
        for name, array in drawn.items()
    ]  # fmt: skip
    regions = _kept(cache / f"regions_{key}.npz", lambda: _regions(scenes))
    return [dataclasses.replace(scene, regions=regions[scene.name]) for scene in scenes]


def _key(recipe: Mapping[str, Any]) -> str:
    told = json.dumps([recipe["data"], recipe["seed"]], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What was made before, or is made now."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part.npz")
        np.savez_compressed(beside, **{name.replace("/", "|"): a for name, a in make().items()})
        beside.rename(path)
    with np.load(path) as stored:
        return {name.replace("|", "/"): stored[name] for name in stored.files}


def _draw(count: int, seed: int) -> dict[str, np.ndarray]:
    with get_context("fork").Pool(2) as pool:
        drawn = pool.imap(drawn_scene, range(1000 * seed, 1000 * seed + count), chunksize=4)
        scenes = list(track(drawn, description="Drawing", total=count))
    return {scene.name: np.dstack([scene.image, scene.water]) for scene in scenes}


def _regions(scenes: list[Scene]) -> dict[str, np.ndarray]:
    with get_context("fork").Pool(2) as pool:
        found = pool.imap(stable_regions, scenes, chunksize=4)
        listed = track(found, description="Regions", total=len(scenes))
        return {scene.name: area for scene, area in zip(scenes, listed, strict=True)}
