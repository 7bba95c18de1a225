"""Who gets which strips, with workers that live in this process and die as they are told."""

import dataclasses
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from raster_scenes import DarkIsWater, river, write_raster

from autosam.errors import AutoSamError, EngineError, OutputError
from autosam.inference.crews import (
    MOST_DEATHS,
    RasterQueue,
    SpanEnded,
    StripMade,
    WorkerDied,
    WorkerReady,
)
from autosam.inference.map_orders import MapOrder
from autosam.inference.planned_rasters import MappedRaster
from autosam.inference.strip_workers import ModelFacts, SpanWorker
from autosam.inference.tiles import mask_raster
from autosam.maps.journal import unfinished
from autosam.maps.settings import MapSettings

SETTINGS = MapSettings(probability="uint8")


class CrewOfOneProcess:
    """Works on one strip of one worker at a time, in an order that dice decide.

    Args:
        workers: How many.
        shares_folders: Whether layers are left in the span's folder.
        seed: Of the dice.
        dies: Told worker, raster and strip; True kills the worker before it has made it.
        model: Of every worker.
    """

    def __init__(self, workers, *, shares_folders=True, seed=0, dies=None, model=DarkIsWater):
        self.shares_folders = shares_folders
        self.given = []
        self._dice = np.random.default_rng(seed)
        self._dies = dies or (lambda *_: False)
        self._model = model
        self._workers = [SpanWorker(model()) for _ in range(workers)]
        # As in processes of their own, for GDAL's settings belong to a thread.
        self._threads = [ThreadPoolExecutor(1) for _ in range(workers)]
        self._spans = {}
        self._said = deque(self._ready(worker) for worker in range(workers))

    def _ready(self, worker):
        return WorkerReady(worker=worker, facts=self._workers[worker].facts)

    def give(self, worker, span):
        assert worker not in self._spans, "it is not done with what it has"
        self.given.append((worker, span.raster, span.strips))
        self._spans[worker] = (span, deque(span.strips))

    def events(self):
        if self._said:
            return [self._said.popleft()]
        worker = int(self._dice.choice(sorted(self._spans)))
        span, left = self._spans[worker]
        if not left:
            del self._spans[worker]
            return [SpanEnded(worker=worker)]
        strip = left.popleft()
        if self._dies(worker, span.raster, strip):
            del self._spans[worker]
            self._threads[worker].submit(self._workers[worker].close).result()
            self._workers[worker] = SpanWorker(self._model())
            self._said.append(self._ready(worker))
            return [WorkerDied(worker=worker, why="signal 9")]
        return [self._made(worker, span, strip)]

    def _mask(self, worker, span, folder, records):
        mask = self._workers[worker].mask
        self._threads[worker].submit(mask, span, folder, records.__setitem__).result()

    def end(self):
        for thread, worker in zip(self._threads, self._workers, strict=True):
            thread.submit(worker.close).result()
            thread.shutdown()

    def _made(self, worker, span, strip):
        one = dataclasses.replace(span, strips=(strip,))
        records = {}
        if self.shares_folders:
            self._mask(worker, one, span.folder, records)
            return StripMade(worker=worker, strip=strip, record=records[strip], layers=None)
        assert span.folder is None
        with tempfile.TemporaryDirectory() as folder:
            self._mask(worker, one, Path(folder), records)
            files = [file for file in Path(folder).iterdir() if file.suffix == ".tif"]
            layers = {file.name.split("-")[0]: file.read_bytes() for file in files}
        return StripMade(worker=worker, strip=strip, record=records[strip], layers=layers)


def mask_all(crew, orthos, folder):
    told = {}
    order = MapOrder(
        pairs=[(str(ortho), folder / ortho.name) for ortho in orthos],
        settings=SETTINGS,
        overwrite=False,
        on_each=told.__setitem__,
    )
    try:
        RasterQueue(crew, order).work()
    finally:
        crew.end()
    assert sorted(told) == list(range(len(orthos)))
    return [told[number] for number in sorted(told)]


def bytes_in(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def orthos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orthos")
    sizes = {"tall": (700, 130), "small": (50, 60), "wide": (150, 200)}
    return [write_raster(folder / f"{name}.tif", river(*size)[0]) for name, size in sizes.items()]


@pytest.fixture(scope="module")
def expected(orthos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    for ortho in orthos:
        mask_raster(DarkIsWater(), ortho, folder / ortho.name, settings=SETTINGS)
    return bytes_in(folder)


@pytest.mark.parametrize(
    ("workers", "seed", "shares_folders"),
    [(1, 0, False), (2, 1, True), (3, 2, False), (5, 3, True)],
)
def test_any_number_of_workers_gives_the_same_bytes(
    orthos, expected, tmp_path, workers, seed, shares_folders
):
    crew = CrewOfOneProcess(workers, seed=seed, shares_folders=shares_folders)
    told = mask_all(crew, orthos, tmp_path)
    assert all(isinstance(one, MappedRaster) and one.status == "written" for one in told)
    assert bytes_in(tmp_path) == expected


def test_nobody_is_without_work_while_there_is_some_to_share(orthos, tmp_path):
    crew = CrewOfOneProcess(3)
    mask_all(crew, orthos[:1], tmp_path)  # one raster of 15 strips
    assert {worker for worker, _, _ in crew.given} == {0, 1, 2}
    made = sorted(strip for _, _, strips in crew.given for strip in strips)
    assert made == list(range(15))
    # Most spans go on where their worker's last one ended: no row of tiles is masked twice for them.
    last, jumps = {}, 0
    for worker, _, strips in crew.given:
        jumps += worker in last and last[worker] != strips[0] - 1
        last[worker] = strips[-1]
    assert jumps <= 2


def test_workers_take_whole_rasters_while_there_are_any(orthos, tmp_path):
    crew = CrewOfOneProcess(2)
    mask_all(crew, orthos, tmp_path)
    assert [raster for _, raster, _ in crew.given[:2]] == [0, 1]


@pytest.mark.parametrize("seed", range(4))
def test_workers_that_die_lose_nothing(orthos, expected, tmp_path, seed):
    dice, deaths = np.random.default_rng(seed), []

    def dies(worker, raster, strip):
        if dice.random() < 0.25 and deaths.count((raster, strip)) < MOST_DEATHS - 1:
            deaths.append((raster, strip))
            return True
        return False

    told = mask_all(CrewOfOneProcess(3, seed=seed, dies=dies), orthos, tmp_path)
    assert deaths
    assert all(isinstance(one, MappedRaster) for one in told)
    assert bytes_in(tmp_path) == expected


def test_a_strip_over_which_workers_die_costs_its_raster_and_no_other(orthos, expected, tmp_path):
    crew = CrewOfOneProcess(2, dies=lambda worker, raster, strip: (raster, strip) == (0, 5))
    told = mask_all(crew, orthos, tmp_path)
    assert isinstance(told[0], EngineError)
    assert "live through strip 5, got 3 that died over it" in str(told[0])
    assert "signal 9" in str(told[0])
    assert [one.status for one in told[1:]] == ["written", "written"]
    assert not (tmp_path / "tall.tif").exists()
    # What was made of it is kept for the next run.
    assert list(unfinished(tmp_path / "tall.tif").glob("strip-*.json"))
    mask_all(CrewOfOneProcess(2), orthos, tmp_path)
    assert bytes_in(tmp_path) == expected


def test_a_tile_that_fails_is_a_hole_on_every_worker(tmp_path):
    image = river(400, 200)[0]
    image[150:260, :64] = 250
    ortho = write_raster(tmp_path / "in" / "a.tif", image)

    def model():
        return DarkIsWater(fails=225)

    mask_raster(model(), ortho, tmp_path / "plain" / "a.tif", settings=SETTINGS)
    (told,) = mask_all(CrewOfOneProcess(3, model=model), [ortho], tmp_path / "crew")
    assert told.failed_tiles > 1
    assert bytes_in(tmp_path / "crew") == bytes_in(tmp_path / "plain")


def test_a_raster_that_cannot_be_masked_is_told_and_the_others_go_on(orthos, tmp_path):
    (tmp_path / "bad.tif").write_bytes(b"II*\0 cut off")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "small.tif").write_bytes(b"somebody's work")
    sources = [tmp_path / "bad.tif", *orthos[1:], tmp_path / "absent.tif"]
    told = mask_all(CrewOfOneProcess(2), sources, tmp_path / "out")
    assert "must be whole" in str(told[0])
    assert isinstance(told[1], OutputError)
    assert told[2].status == "written"
    assert "must exist" in str(told[3])


def test_an_error_of_a_worker_ends_its_raster(orthos, expected, tmp_path):
    class Refuses(CrewOfOneProcess):
        def _made(self, worker, span, strip):
            if (span.raster, strip) == (0, 3):
                del self._spans[worker]
                return SpanEnded(worker=worker, error=OutputError("no room here"))
            return super()._made(worker, span, strip)

    told = mask_all(Refuses(2), orthos, tmp_path)
    assert str(told[0]) == "no room here"
    assert [one.status for one in told[1:]] == ["written", "written"]


def test_what_was_finished_before_is_not_given_to_anyone(orthos, tmp_path):
    mask_all(CrewOfOneProcess(2), orthos, tmp_path)
    crew = CrewOfOneProcess(2)
    told = mask_all(crew, orthos, tmp_path)
    assert [one.status for one in told] == ["finished before"] * 3
    assert crew.given == []


def test_strips_of_an_interrupted_run_are_not_made_again(orthos, expected, tmp_path):
    class Stops(CrewOfOneProcess):
        def events(self):
            if sum(len(strips) for _, _, strips in self.given) > 12:
                raise KeyboardInterrupt
            return super().events()

    with pytest.raises(KeyboardInterrupt):
        mask_all(Stops(1), orthos, tmp_path)
    done = len(list(unfinished(tmp_path / "tall.tif").glob("strip-*.json")))
    assert done >= 8
    crew = CrewOfOneProcess(2)
    told = mask_all(crew, orthos, tmp_path)
    assert told[0].resumed
    assert sum(len(strips) for _, raster, strips in crew.given if raster == 0) == 15 - done
    assert bytes_in(tmp_path) == expected


def test_workers_with_two_models_are_refused(orthos, tmp_path):
    crew = CrewOfOneProcess(2)
    crew._said[1] = WorkerReady(worker=1, facts=ModelFacts.of(DarkIsWater(name="another")))
    with pytest.raises(EngineError, match="one model, got 'another' beside 'dark'"):
        mask_all(crew, orthos, tmp_path)


def test_another_raster_under_the_same_name_is_refused(orthos, tmp_path):
    class Moves(CrewOfOneProcess):
        def give(self, worker, span):
            write_raster(tmp_path / "a.tif", river(90, 80)[0])
            super().give(worker, span)

        def _made(self, worker, span, strip):
            try:
                return super()._made(worker, span, strip)
            except AutoSamError as error:
                del self._spans[worker]
                return SpanEnded(worker=worker, error=error)

    ortho = write_raster(tmp_path / "a.tif", river(100, 80)[0])
    (told,) = mask_all(Moves(1), [ortho], tmp_path / "out")
    assert "must be the same for every worker, got (90, 80) pixels" in str(told)
