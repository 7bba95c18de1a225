"""Question: does a run that was killed end with the very bits of one that was not?

Method: `autosam train` on synthetic scenes, once undisturbed, then killed with SIGKILL at random moments and
        resumed each time; the trained weights must be equal bit for bit.
Run:    python benchmarks/robustness/kill_training.py --scratch FOLDER --kills 5
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file


def command(folder: Path, scratch: Path, *more: str) -> list[str]:
    """The training command of both runs."""
    return [
        sys.executable, "-m", "autosam", "train", str(scratch / "kill.yaml"), "-o", str(folder), *more,
    ]  # fmt: skip


def main() -> None:
    """Train, kill, resume, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    scratch = arguments.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    settings = {
        "data": {"synthetic_count": 12, "synthetic_side": 128},
        "prompt": {"side": 64},
        "train": {"epochs": 12, "batch_size": 2, "save_steps": 3, "patience": 0, "views": 8},
        "cache": {"directory": str(scratch / "embeddings")},
    }
    (scratch / "kill.yaml").write_text(json.dumps(settings))
    whole, killed = scratch / "whole", scratch / "killed"
    start = time.perf_counter()
    subprocess.run(command(whole, scratch), check=True)
    took = time.perf_counter() - start
    moments, kills = random.Random(arguments.seed), []
    while len(kills) < arguments.kills:
        more = ("--resume",) if (killed / "config.yaml").exists() else ()
        process = subprocess.Popen(command(killed, scratch, *more))
        moment = moments.uniform(0.3, 0.8) * took
        time.sleep(moment)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        kills.append(round(moment, 2))
    subprocess.run(command(killed, scratch, "--resume"), check=True)
    states = [load_file(folder / "model.safetensors") for folder in (whole, killed)]
    equal = all(bool((states[0][key] == states[1][key]).all()) for key in states[0])
    print(
        json.dumps(
            {"undisturbed_seconds": round(took, 1), "kills_at_seconds": kills, "equal": equal}
        )
    )
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
