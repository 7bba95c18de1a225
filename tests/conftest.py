"""No network, one seed, and the few things that many tests need."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: a second thread only waits

import numpy as np
import pytest
import torch

# In importlib mode the folder of a test is not on the path.
sys.path.insert(0, str(Path(__file__).parent))

from loopback_hub import loopback_hub

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def shared_data() -> Path:
    """Real river imagery, which never enters the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real imagery is not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM of side 64 in hub format, with weights of a visible scale."""
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
def tiny_sam(tiny_sam_folder: Path):
    """The same, loaded by the library."""
    from autosam.models.sam import load_sam

    return load_sam(str(tiny_sam_folder))


@pytest.fixture
def hub():
    """A hub on this machine, for one test."""
    with loopback_hub() as hub:
        yield hub
