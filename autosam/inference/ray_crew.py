"""Workers that are Ray actors, on this machine or a cluster: each loads the model once and masks spans.

Layers come back as the content of their files, so that nothing but the rasters must be within reach of every
machine. An actor that is killed is started again by Ray; what it had in its hands is given out anew.
"""

import contextlib
import dataclasses
import importlib
import os
import queue
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from autosam.errors import AutoSamError, EngineError, MissingPackageError
from autosam.inference.crews import Event, SpanEnded, StripMade, WorkerDied, WorkerReady
from autosam.inference.raster_runs import strip_files
from autosam.inference.strip_workers import ModelFacts, ModelSource, Span, SpanWorker

_STRIPS_UNDERWAY = 2
"""That an actor has made and this process has not fetched; then it waits."""
_END = None

Made = tuple[int, dict[str, Any], dict[str, bytes]]
"""A strip, its record, and the content of each layer's file."""


class StripActor:
    """What runs on a machine of the cluster.

    Args:
        model: Loaded once, when it is first needed.
    """

    def __init__(self, model: ModelSource) -> None:
        self._model = model
        self._worker: SpanWorker | None = None
        # GDAL's settings belong to the thread in which a raster was opened: it is always this one.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="autosam-masking")

    def facts(self) -> tuple[ModelFacts | AutoSamError, int]:
        """What its model is like, or why there is none; and its process."""
        try:
            return self._loaded().facts, os.getpid()
        except AutoSamError as error:
            return error, os.getpid()

    def mask(self, span: Span) -> Iterator[Made | AutoSamError]:
        """Strips of a span as they are made; an error ends it and is given in the place of a strip."""
        made: queue.Queue[Made | AutoSamError | None] = queue.Queue(maxsize=1)
        with tempfile.TemporaryDirectory(prefix="autosam-") as folder:
            masking = self._thread.submit(self._mask, span, Path(folder), made)
            while (item := made.get()) is not _END:
                yield item
            masking.result()

    def _mask(
        self, span: Span, folder: Path, made: "queue.Queue[Made | AutoSamError | None]"
    ) -> None:
        def tell(strip: int, record: dict[str, Any]) -> None:
            layers = {}
            for name, file in strip_files(folder, span.job, strip).items():
                if file.exists():  # an empty strip has none
                    layers[name] = file.read_bytes()
                    file.unlink()
            made.put((strip, record, layers))

        try:
            self._loaded().mask(span, folder, tell)
        except AutoSamError as error:
            made.put(error)
        finally:
            made.put(_END)

    def _loaded(self) -> SpanWorker:
        if self._worker is None:
            self._worker = SpanWorker(self._model.load())
        return self._worker


class RayCrew:
    """Actors that have been asked for; made by `ray_crew`.

    Args:
        ray: The package, connected to a cluster.
        model: For each of them.
        workers: How many; None for one on each GPU, or on each machine.
    """

    shares_folders = False

    def __init__(self, ray: Any, model: ModelSource, workers: int | None) -> None:
        self._ray = ray
        share = _share_of_cluster(ray, model, workers)
        # As many threads as processors, so that two actors of one machine do not meet.
        threads = None if share.gpus else share.cpus
        actor = ray.remote(StripActor).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=-1
        )
        self._actors = [
            actor.remote(dataclasses.replace(model, threads=threads)) for _ in range(share.workers)
        ]
        self.processes = [0] * share.workers
        """Of the system, in the order of the workers; 0 until they are ready."""
        self._waited: dict[Any, int] = {}
        for worker in range(share.workers):
            self._ask_facts(worker)

    def give(self, worker: int, span: Span) -> None:
        """Let an actor mask a span; no more strips than a few are ever underway from it."""
        mask = self._actors[worker].mask.options(
            num_returns="streaming", _generator_backpressure_num_objects=_STRIPS_UNDERWAY
        )
        self._waited[mask.remote(span)] = worker

    def events(self) -> list[Event]:
        """Wait until an actor says something or is gone.

        Raises:
            AutoSamError: An actor cannot load its model.
            EngineError: An actor cannot be started again.
        """
        ready, _ = self._ray.wait(list(self._waited), num_returns=1, fetch_local=False)
        return [self._event(one) for one in ready]

    def close(self) -> None:
        """Give back what the actors hold of the cluster."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _ask_facts(self, worker: int) -> None:
        """Answered once the actor has started, or started again."""
        facts = self._actors[worker].facts.options(max_task_retries=-1)
        self._waited[facts.remote()] = worker

    def _event(self, waited: Any) -> Event:
        worker = self._waited[waited]
        if isinstance(waited, self._ray.ObjectRef):
            del self._waited[waited]
            return self._ready(waited, worker)
        try:
            item = self._ray.get(next(waited))
        except StopIteration:
            del self._waited[waited]
            return SpanEnded(worker=worker, error=None)
        except self._ray.exceptions.RayActorError as error:
            del self._waited[waited]
            self._ask_facts(worker)
            return WorkerDied(worker=worker, why=" ".join(str(error).split("\n")[0].split()))
        if isinstance(item, AutoSamError):
            del self._waited[waited]  # nothing comes after it
            return SpanEnded(worker=worker, error=item)
        strip, record, layers = item
        return StripMade(worker=worker, strip=strip, record=record, layers=layers)

    def _ready(self, answer: Any, worker: int) -> WorkerReady:
        try:
            facts, process = self._ray.get(answer)
        except self._ray.exceptions.RayActorError as error:
            raise EngineError(
                f"an actor must start, got: {' '.join(str(error).split())}. Look at Ray's own logs."
            ) from error
        if isinstance(facts, AutoSamError):
            raise facts
        self.processes[worker] = process
        return WorkerReady(worker=worker, facts=facts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Share:
    """Of a cluster, for each of some workers."""

    workers: int
    cpus: int
    gpus: float


def _share_of_cluster(ray: Any, model: ModelSource, workers: int | None) -> _Share:
    """How the cluster is divided.

    Raises:
        EngineError: There is no room for as many.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    processors = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    on_gpu = (model.device or "").startswith("cuda") or (model.device is None and gpus > 0)
    wanted = workers or (gpus if on_gpu else len(processors))
    if wanted > sum(processors) or (on_gpu and gpus == 0) or wanted == 0:
        raise EngineError(
            f"the Ray cluster must have a processor for each worker, and a GPU for the device 'cuda', got "
            f"{sum(processors)} processors and {gpus} GPUs for {wanted} workers. Give --workers."
        )
    if on_gpu:
        return _Share(workers=wanted, cpus=1, gpus=min(1.0, gpus / wanted))
    # An actor lies on one machine: with more of them than machines, the smallest part decides.
    each = min(*processors, sum(processors) // wanted) if len(processors) > 1 else None
    return _Share(workers=wanted, cpus=max(1, each or processors[0] // wanted), gpus=0.0)


@contextlib.contextmanager
def ray_crew(model: ModelSource, workers: int | None) -> Iterator[RayCrew]:
    """Actors on the cluster that RAY_ADDRESS names, or on one that lives on this machine for this block.

    A cluster to which this process is connected already is used, and stays.

    Raises:
        MissingPackageError: Ray is not installed.
        EngineError: The cluster has no room for as many workers.
    """
    ray = _import_ray()
    own = not ray.is_initialized()
    if own:
        ray.init(log_to_driver=False, logging_level="ERROR", **_dashboard())
    try:
        crew = RayCrew(ray, model, workers)
        try:
            yield crew
        finally:
            crew.close()
    finally:
        if own:
            ray.shutdown()


def _dashboard() -> dict[str, Any]:
    """A cluster that is only joined has its own."""
    return {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingPackageError(
            "--engine ray must have the package 'ray', which is not installed. "
            "Install it with: pip install 'autosam[ray]'"
        ) from error
