"""Question: how long does a person wait for the first mask?

Method: processes that start anew, one after another, round by round: one that only imports torch, one that
        also imports autosam, one that loads river-nano and masks a picture of 1024 x 1024 px in Python, and
        the command that does so and writes the mask. What each takes beyond importing torch is the median
        of the differences within a round. The first round, which brings files into memory, is left out.
Run:    python benchmarks/speed/cold_start.py --out benchmarks/results/cold_start--cpu.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from autosam.data.synthetic import make_scene
from autosam.files import write_json
from autosam.recipes.environment import environment

TORCH = "import torch"
SIDE = 1024


def commands(picture: Path, masks: Path) -> dict[str, list[str]]:
    """What is started, by name."""
    in_python = (
        "import torch; from autosam import AutoSam; "
        f"AutoSam.from_pretrained().predict({str(picture)!r})"
    )
    command = ["-m", "autosam", "predict", str(picture), "-o", str(masks), "--overwrite"]
    return {
        TORCH: [sys.executable, "-c", "import torch"],
        "import torch and autosam": [sys.executable, "-c", "import torch, autosam"],
        "load river-nano and mask a picture": [sys.executable, "-c", in_python],
        "autosam predict": [sys.executable, *command],
    }


def main() -> None:
    """Start every command in turn and write what each took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture, masks = folder / "scene.png", folder / "masks"
        Image.fromarray(make_scene(3, side=SIDE).image).save(picture)
        started = commands(picture, masks)
        seconds: dict[str, list[float]] = {name: [] for name in started}
        for number in range(arguments.rounds + 1):
            for name, command in started.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if number:
                    seconds[name].append(round(time.perf_counter() - start, 3))
        assert any(masks.glob("scene*.png")), "no mask: the figures mean nothing"
    beyond = {
        name: round(float(np.median(np.subtract(values, seconds[TORCH]))), 3)
        for name, values in seconds.items()
    }
    result = {"question": "cold_start", "seconds": seconds, "beyond_importing_torch": beyond}
    print(json.dumps(result, indent=1))
    if arguments.out:
        write_json(arguments.out, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
