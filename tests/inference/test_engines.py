"""Real processes and real actors: the same bytes as one process makes, whatever dies on the way."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import rasterio.shutil
from raster_scenes import river, write_raster

from autosam.errors import ConfigError, EngineError, MissingPackageError, MissingPathError
from autosam.inference.crews import RasterQueue
from autosam.inference.engines import check_engine, mask_with_engine, needs_processes
from autosam.inference.local_crew import local_crew, shares_of_machine
from autosam.inference.map_orders import MapOrder
from autosam.inference.planned_rasters import MappedRaster
from autosam.inference.strip_workers import ModelSource
from autosam.inference.tiles import mask_raster
from autosam.maps.journal import unfinished
from autosam.maps.settings import MapSettings

SETTINGS = MapSettings(probability="float32")
SOON = 250
"""Seconds, on a machine that is busy."""


@pytest.fixture(scope="module")
def model(tiny_sam_folder, tmp_path_factory):
    from autosam.config import config_from_dict
    from autosam.inference.segmenter import AutoSam

    settings = {
        "sam": {"name": str(tiny_sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
    }
    folder = tmp_path_factory.mktemp("model") / "run"
    AutoSam(config_from_dict(settings), device="cpu").save_pretrained(folder)
    return ModelSource(model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def orthos(tmp_path_factory):
    """One that is tall, and one of which a part is missing."""
    folder = tmp_path_factory.mktemp("orthos")
    tall = write_raster(folder / "tall.tif", river(1200, 150)[0])
    whole = write_raster(folder / "whole", river(256, 200)[0])
    rasterio.shutil.copy(
        str(whole), str(folder / "c"), driver="COG", blocksize=128, compress="NONE"
    )
    content = (folder / "c").read_bytes()
    cut = folder / "cut.tif"
    cut.write_bytes(content[: len(content) * 3 // 4])
    return [tall, cut]


@pytest.fixture(scope="module")
def expected(model, orthos, tmp_path_factory):
    """What one process makes of them."""
    folder = tmp_path_factory.mktemp("expected")
    loaded = model.load()
    for ortho in orthos:
        mapped = mask_raster(loaded, ortho, folder / ortho.name, settings=SETTINGS)
    assert mapped.failed_tiles > 1
    return bytes_in(folder)


def bytes_in(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def order_of(orthos, folder, told):
    pairs = [(str(ortho), folder / ortho.name) for ortho in orthos]
    return MapOrder(pairs=pairs, settings=SETTINGS, overwrite=False, on_each=told.__setitem__)


def strips_in(output):
    return len(list(unfinished(output).glob("strip-*.json")))


class Assassin(threading.Thread):
    """Kills a process as soon as some strips of an output are finished, and nothing after its block.

    Args:
        output: Of the raster.
        process: Gives the process, or 0 while there is none; asked when it is time.
    """

    def __init__(self, output, process):
        super().__init__(daemon=True)
        self.output = output
        self.process = process
        self.killed = None
        self._is_over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self.join()

    def run(self):
        while not self._is_over.wait(0.005):
            process = strips_in(self.output) >= 3 and self.process()
            if process:  # to kill 0 would be to kill the whole group, tests and all
                self.killed = process
                os.kill(process, signal.SIGKILL)
                return


def test_two_processes_of_which_one_is_killed_give_the_same_bytes(
    model, orthos, expected, tmp_path
):
    told = {}
    with local_crew(shares_of_machine(model, 2)) as crew:
        before = crew.processes
        with Assassin(tmp_path / "tall.tif", lambda: crew.processes[0]) as assassin:
            RasterQueue(crew, order_of([*orthos, tmp_path / "absent.tif"], tmp_path, told)).work()
        assert assassin.killed == before[0]
        assert crew.processes[0] != before[0]  # another took its place
        assert crew.processes[1] == before[1]
    assert [told[number].status for number in (0, 1)] == ["written"] * 2
    assert isinstance(told[2], MissingPathError)
    assert bytes_in(tmp_path) == expected


def test_a_model_that_is_not_there_is_one_clear_error(orthos, tmp_path):
    nothing = ModelSource(model=str(tmp_path / "nothing"), device="cpu")
    with pytest.raises(MissingPathError, match="nothing"):
        mask_with_engine("local", nothing, order_of(orthos, tmp_path / "out", {}), workers=1)


MAP = """
import sys
from autosam.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_processes_that_were_launched_together_give_the_same_bytes(
    model, orthos, expected, tmp_path
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        "map", *map(str, orthos), "-o", str(tmp_path), "-m", model.model, "--device", "cpu",
        "--engine", "accelerate", "--probability", "float32",
    ]  # fmt: skip
    started = []
    for rank in range(2):
        environment = {
            **os.environ, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        command = [sys.executable, "-c", MAP, *arguments]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    said = [process.communicate(timeout=SOON)[0] for process in started]
    assert [process.returncode for process in started] == [
        1,
        0,
    ]  # a tile failed: the main one says so
    assert "tall.tif, water" in said[0]
    assert "tiles FAILED" in said[0]
    assert said[1] == ""
    assert bytes_in(tmp_path) == expected


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_cluster_of_which_one_worker_is_killed_gives_the_same_bytes(
    model, orthos, expected, tmp_path
):
    import ray

    from autosam.inference.ray_crew import ray_crew

    told = {}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with ray_crew(model, 2) as crew:
            with Assassin(tmp_path / "tall.tif", lambda: max(crew.processes)) as assassin:
                RasterQueue(crew, order_of(orthos, tmp_path, told)).work()
            assert assassin.killed is not None
            assert not Path(f"/proc/{assassin.killed}/status").exists()
    finally:
        ray.shutdown()
    assert [told[number].status for number in (0, 1)] == ["written"] * 2
    assert isinstance(told[0], MappedRaster)
    assert bytes_in(tmp_path) == expected


def test_ray_that_is_not_installed_is_one_clear_error(model, orthos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'autosam\[ray\]'"):
        mask_with_engine("ray", model, order_of(orthos, tmp_path, {}))


@pytest.mark.parametrize(
    ("engine", "workers", "word"),
    [
        ("loca", None, "Did you mean 'local'"),
        ("local", 0, "1 or more, got 0"),
        ("accelerate", 2, "left to the launcher"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(engine, workers, word):
    with pytest.raises(ConfigError, match=word):
        check_engine(engine, workers)


def test_a_launched_process_never_works_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="must be 'accelerate' in 2 processes"):
        check_engine("local", None)


def test_workers_share_the_processor(model, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert [share.threads for share in shares_of_machine(model, 3)] == [2, 2, 2]
    assert [share.threads for share in shares_of_machine(model, None)] == [None]
    assert not needs_processes("local", model, 1)
    assert needs_processes("local", model, 2)


def test_there_is_a_worker_for_each_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(
        "autosam.inference.local_crew.choose_device", lambda name: torch.device(name or "cuda")
    )
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    source = ModelSource(model="river-nano")
    assert [one.device for one in shares_of_machine(source, None)] == ["cuda:0", "cuda:1"]
    assert [one.device for one in shares_of_machine(source, 3)] == ["cuda:0", "cuda:1", "cuda:0"]
    one = ModelSource(model="river-nano", device="cuda:1")
    assert [share.device for share in shares_of_machine(one, None)] == ["cuda:1"]


class ClusterOf:
    """What is asked of Ray about the machines of a cluster."""

    def __init__(self, *machines):
        self._machines = machines

    def nodes(self):
        return [{"Alive": True, "Resources": machine} for machine in self._machines]


@pytest.mark.parametrize(
    ("machines", "device", "workers", "share"),
    [
        ([{"CPU": 8.0}], None, None, (1, 8, 0)),
        ([{"CPU": 8.0}], None, 3, (3, 2, 0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}], None, None, (2, 4, 0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}], None, 6, (6, 2, 0)),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}], None, None, (6, 1, 1)),
        ([{"CPU": 8.0, "GPU": 1.0}], "cuda", 2, (2, 1, 0.5)),
        ([{"CPU": 8.0, "GPU": 1.0}], "cpu", None, (1, 8, 0)),
    ],
)
def test_a_cluster_is_divided(machines, device, workers, share):
    from autosam.inference.ray_crew import _share_of_cluster

    source = ModelSource(model="river-nano", device=device)
    found = _share_of_cluster(ClusterOf(*machines), source, workers)
    assert (found.workers, found.cpus, found.gpus) == share


@pytest.mark.parametrize(
    ("machines", "device", "workers"),
    [([{"CPU": 2.0}], None, 3), ([{"CPU": 2.0}], "cuda", None), ([{}], None, None)],
)
def test_a_cluster_that_is_too_small_is_refused(machines, device, workers):
    from autosam.inference.ray_crew import _share_of_cluster

    source = ModelSource(model="river-nano", device=device)
    with pytest.raises(EngineError, match="must have a processor for each worker"):
        _share_of_cluster(ClusterOf(*machines), source, workers)
