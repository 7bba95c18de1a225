"""What `autosam info` and `autosam doctor` do: say what is here, and whether it works."""

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from autosam.config import CacheSettings, Config, config_from_dict
from autosam.data.images import to_picture
from autosam.data.synthetic import make_scene
from autosam.embeddings import default_cache_directory, describe_cache
from autosam.errors import AutoSamError
from autosam.files import PathLike
from autosam.inference.number_formats import product_speeds
from autosam.models.checkpoints import describe
from autosam.models.compiled_graphs import read_metadata
from autosam.models.embedded import embedded_folder
from autosam.models.exported_network import SUFFIX
from autosam.models.gauges import Gauges
from autosam.models.weight_files import read_weights
from autosam.recipes.environment import environment
from autosam.recipes.evaluating import read_openings

GIBIBYTE = 2**30


def describe_run(folder: PathLike) -> dict[str, Any]:
    """What a run or checkpoint holds: method, SAM, data, split, scores, decision, weights.

    Of an ONNX file, what it says of itself.

    Raises:
        MissingPathError: There is no checkpoint in the folder.
        CheckpointError: It is damaged.
    """
    folder = embedded_folder(folder) or Path(folder)
    if folder.suffix == SUFFIX and folder.is_file():
        return {"file": str(folder), **read_metadata(folder)}
    description = describe(folder)
    weights = folder / "model.safetensors"
    return {
        "folder": str(folder),
        "method": description["method"],
        "sam": description.get("sam"),
        "prompt": description["config"]["prompt"],
        "data": description["config"]["data"]["source"],
        "decision": description["decision"],
        "weights": f"{len(read_weights(weights))} tensors, {weights.stat().st_size / 1e6:.2f} MB",
        "gauges": _gauges(description.get("gauges")),
        "test_opened": len(read_openings(folder)),
        **description["facts"],
    }


def _gauges(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Without the statistics of single channels."""
    gauges = Gauges.from_dict(values)
    domain = gauges.domain
    known = None if domain is None else {"distances": domain.distances, "iou": domain.iou}
    return {"presence": gauges.to_dict()["presence"], "expected_iou_by_distance": known}


def describe_installation(settings: CacheSettings | None = None) -> dict[str, Any]:
    """Versions, hardware, and what the embedding cache holds."""
    directory = default_cache_directory(settings or CacheSettings())
    return {
        **environment(),
        "embedding_cache": {
            "directory": str(directory),
            **describe_cache(directory),
        },
    }


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    what: str
    well: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)

    def sentence(self) -> str:
        """One line for the console."""
        return f"{'ok  ' if self.well else 'FAIL'} {self.what}: {self.detail}"


def examine() -> list[Finding]:
    """Check what most often goes wrong on a new machine, and train on four scenes."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("torch and torchvision", _check_pair),
        ("device", _check_device),
        ("number formats", _check_formats),
        ("pictures", _check_pictures),
        ("disk", _check_disk),
        ("embedding cache", _check_cache),
        ("learning", _check_learning),
    ]
    return [_found(what, check) for what, check in checks]


def _found(what: str, check: Callable[[], str]) -> Finding:
    """A check that raises is the finding: that is what the doctor is for."""
    try:
        return Finding(what, True, check())
    except (AutoSamError, RuntimeError, ImportError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return Finding(what, False, reason)


def _check_pair() -> str:
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    try:
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
    except (RuntimeError, AttributeError) as error:
        raise RuntimeError(
            f"torch {torch.__version__} and torchvision {torchvision.__version__} must be a pair, got "
            f"{str(error).splitlines()[0]}. Install both anew: pip install --upgrade torch torchvision."
        ) from error
    if kept.tolist() != [0]:
        raise RuntimeError(
            "torchvision's operators must work, got a wrong answer. Install it anew."
        )
    return f"torch {torch.__version__}, torchvision {torchvision.__version__}"


def _check_device() -> str:
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / GIBIBYTE
        return f"{torch.cuda.get_device_name()} with {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        return "Apple GPU"
    return f"processor with {torch.get_num_threads()} threads, no GPU"


def _check_formats() -> str:
    """Time one matrix product in each format: which is quick differs by processor, not by name."""
    speeds = product_speeds("cuda" if torch.cuda.is_available() else "cpu")
    return ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in speeds.items())


def _check_pictures() -> str:
    picture = to_picture(make_scene(0, side=64).image)
    return f"read and drawn, {picture.image.shape[0]} x {picture.image.shape[1]} px"


def _check_disk() -> str:
    free = shutil.disk_usage(tempfile.gettempdir()).free / GIBIBYTE
    if free < 1:
        raise OSError(f"at least 1 GiB must be free, got {free:.2f} GiB. Free some space.")
    return f"{free:.0f} GiB free"


def _check_cache() -> str:
    directory = default_cache_directory(CacheSettings())
    existing = next(place for place in (directory, *directory.parents) if place.exists())
    with tempfile.TemporaryDirectory(dir=existing):
        pass
    kept = describe_cache(directory)
    return f"{kept['count']} embeddings, {kept['bytes'] / GIBIBYTE:.2f} GiB in {directory}"


def doctor_config(directory: PathLike) -> Config:
    """Four scenes to learn by heart, and one each to validate and test on."""
    return config_from_dict(
        {
            "data": {
                "synthetic_count": 6,
                "synthetic_side": 128,
                "validation_share": 0.17,
                "test_share": 0.17,
            },
            "prompt": {"side": 128},
            "train": {
                "epochs": 40,
                "jitter": 0.0,
                "patience": 0,
                "warmup_steps": 5,
                "learning_rate": 2e-3,
            },
            "cache": {"directory": str(Path(directory) / "embeddings")},
        }
    )


def _check_learning() -> str:
    from autosam.recipes.training import train_run

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        train_run(doctor_config(directory), run)
        rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    # The loss itself, for the checkpoint is the one that did best on a scene it did not learn.
    first, last = rows[0]["loss"], min(row["loss"] for row in rows)
    if last > first / 2:
        raise RuntimeError(
            f"training must halve the loss on four scenes, got {first:.2f} and then {last:.2f}. "
            "Install torch, torchvision and transformers anew, then report it."
        )
    seconds = time.perf_counter() - start
    return f"loss on four scenes from {first:.2f} to {last:.2f}, {seconds:.0f} s"
