"""What tests of the app say to it, and the small model behind it."""

import io

import numpy as np
import torch
from PIL import Image
from raster_scenes import write_raster

from autosam.config import config_from_dict
from autosam.inference.segmenter import AutoSam
from autosam.models.checkpoints import Decision

THRESHOLD = 0.45
OWN = {"origin": "http://127.0.0.1"}


def model_of(sam_folder, *, gauges=None, **changes):
    settings = {
        "sam": {"name": str(sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
        **changes,
    }
    torch.manual_seed(0)
    decision = Decision(temperature=1.7, threshold=THRESHOLD)
    return AutoSam(config_from_dict(settings), decision=decision, gauges=gauges, device="cpu")


def picture_bytes(image, kind="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format=kind, **options)
    return stream.getvalue()


def ortho_bytes(tmp_path, image, **profile):
    return write_raster(tmp_path / "made" / "ortho.tif", image, **profile).read_bytes()


def upload(client, content, name="river.png"):
    return client.post("/api/pictures", content=content, headers={**OWN, "x-file-name": name})


def post(client, path, **values):
    return client.post(path, json=values, headers=OWN)


def levels_of(client, state):
    content = client.get(f"/api/pictures/{state['id']}/levels").content
    return np.frombuffer(content, "<u2").reshape(state["screen"])
