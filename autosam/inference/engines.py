"""Engines: the same strips, masked by one process, by several on this machine, or by a cluster.

Strips are functions of the plan alone, so which engine made them cannot be told from a mask. Bytes are equal
where the model's arithmetic is: on devices of one kind, with the same number of threads.
"""

import os
from typing import Literal, get_args

from autosam.errors import ConfigError, did_you_mean
from autosam.inference.crews import RasterQueue
from autosam.inference.local_crew import local_crew, shares_of_machine
from autosam.inference.map_orders import MapOrder
from autosam.inference.strip_workers import ModelSource

EngineName = Literal["local", "accelerate", "ray"]
ENGINES: tuple[str, ...] = get_args(EngineName)


def check_engine(engine: str, workers: int | None) -> None:
    """Refuse an engine that is none, or a number of workers that it cannot have.

    Raises:
        ConfigError: It is one of these.
    """
    if engine not in ENGINES:
        raise ConfigError(
            f"engine must be one of {', '.join(ENGINES)}, got {engine!r}. "
            f"{did_you_mean(engine, ENGINES)}"
        )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and engine != "accelerate":
        raise ConfigError(
            f"engine must be 'accelerate' in {launched} processes that were launched together, got "
            f"{engine!r}. Give --engine accelerate, or start it without a launcher."
        )
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be 1 or more, got {workers}. Change it.")
    if workers is not None and engine == "accelerate":
        raise ConfigError(
            f"workers must be left to the launcher with engine 'accelerate', got {workers}. "
            "Give --num_processes to accelerate launch."
        )


def needs_processes(engine: str, model: ModelSource | None, workers: int | None) -> bool:
    """Whether more than this process is to work; a single local worker is this process itself.

    Args:
        engine: As for `mask_with_engine`.
        model: None for one that has no name, and cannot be loaded elsewhere.
        workers: As for `mask_with_engine`.

    Raises:
        ConfigError: As for `check_engine`, or other processes would have to load a model without a name.
        ModelError: The device is not there.
    """
    check_engine(engine, workers)
    here = engine == "local" and (workers or 1) == 1
    if model is None:
        if here:
            return False
        raise ConfigError(
            f"model must be named for other processes to load it, got an object and engine {engine!r}. "
            "Give the folder of a run, or owner/name on the hub."
        )
    return not (here and len(shares_of_machine(model, workers)) == 1)


def speaks_for_all(engine: str) -> bool:
    """Whether this process is the one that tells what became of rasters."""
    return engine != "accelerate" or os.environ.get("RANK", "0") == "0"


def mask_with_engine(
    engine: str, model: ModelSource, order: MapOrder, *, workers: int | None = None
) -> None:
    """Mask rasters.

    Args:
        engine: 'local' (a process for each device), 'accelerate' (the processes that were launched
            together, of which each calls this), or 'ray' (actors on a cluster).
        model: By its name; each worker loads it.
        order: What to mask.
        workers: How many; None leaves it to the engine.

    Raises:
        ConfigError: As for `check_engine`.
        MissingPackageError: Ray is not installed.
        EngineError: Workers cannot start, or do not have the same model.
        AutoSamError: The model cannot be loaded.
    """
    check_engine(engine, workers)
    if engine == "accelerate":
        from autosam.inference.launched_together import mask_together  # its import is slow

        mask_together(model, order)
    elif engine == "ray":
        from autosam.inference.ray_crew import ray_crew

        with ray_crew(model, workers) as actors:
            RasterQueue(actors, order).work()
    else:
        with local_crew(shares_of_machine(model, workers)) as processes:
            RasterQueue(processes, order).work()
