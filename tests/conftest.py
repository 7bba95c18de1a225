"""No network, one seed, and the few things that many tests need."""

import contextlib
import dataclasses
import functools
import importlib
import multiprocessing
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: a second thread only waits
# The same kernels on every machine, whatever its processor has.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")

import pytest

# In importlib mode the folder of a test is not on the path.
sys.path.insert(0, str(Path(__file__).parent))

from loopback_hub import loopback_hub

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SLOW_TO_IMPORT = (
    "torch", "torchvision", "geopandas", "rasterio", "cv2", "sklearn.metrics", "skimage", "scipy.stats",
    "matplotlib.backends.backend_agg", "timm", "segmentation_models_pytorch", "accelerate", "datasets",
    "transformers.models.sam.modeling_sam", "monai.losses", "hypothesis",
)  # fmt: skip
PRELOADED = ["autosam.training.loop", "matplotlib.backends.backend_agg", "timm.layers"]
"""By the process that others are forked from."""


def _import_untraced() -> None:
    """Import what others wrote and nearly all tests need, before coverage makes it take twice the time."""
    coverage = sys.modules.get("coverage")
    measured = coverage.Coverage.current() if coverage else None
    if measured is None or "PYTEST_XDIST_WORKER" not in os.environ:
        return
    measured.stop()
    for name in SLOW_TO_IMPORT:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    measured.start()


_import_untraced()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    # Imported here, for the process that only hands out tests has no use for them.
    import numpy as np
    import torch

    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session", autouse=True)
def _scenes_of_datasets_are_drawn_once():
    """A scene follows from what is asked for, to which tests/data/test_synthetic.py holds it."""
    from autosam.data import synthetic

    draw = functools.lru_cache(maxsize=300)(synthetic.make_scene)

    def drawn(seed, **asked):
        scene = draw(seed, **asked)
        copies = {name: band.copy() for name, band in scene.bands.items()}
        return dataclasses.replace(
            scene, image=scene.image.copy(), mask=scene.mask.copy(), bands=copies
        )

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(synthetic, "make_scene", drawn)
        yield


@pytest.fixture
def shared_data() -> Path:
    """Real river imagery, which never enters the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real imagery is not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM of side 64 in hub format, with weights of a visible scale."""
    import torch
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "global_attn_indexes": [1],
            "image_size": 64,
            "window_size": 2,
            "output_channels": 32,
            "num_pos_feats": 16,
            "mlp_dim": 64,
        },
        prompt_encoder_config={"image_size": 64, "hidden_size": 32, "image_embedding_size": 4},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    )
    torch.manual_seed(1)
    model = SamModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name or parameter.dim() > 1:
                parameter.normal_(0, 0.3 if parameter.dim() > 1 else 0.1)
    folder = tmp_path_factory.mktemp("tiny-sam")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def openvino_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bfloat16 gives other numbers on every kind of processor; only that it is asked for is tested."""
    from autosam.models import compiled_graphs

    real = compiled_graphs._by_openvino
    monkeypatch.setattr(compiled_graphs, "_by_openvino", lambda path, half: real(path, half=False))


@pytest.fixture
def tiny_sam(tiny_sam_folder: Path):
    """The same, loaded by the library."""
    from autosam.models.sam import load_sam

    return load_sam(str(tiny_sam_folder))


@pytest.fixture(scope="session")
def forking():
    """Makes processes that start in a moment: they have their imports behind them, and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture
def hub():
    """A hub on this machine, for one test."""
    with loopback_hub() as hub:
        yield hub
