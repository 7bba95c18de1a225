"""A small app on a tiny random model, asked without a socket."""

import contextlib
import sys
from pathlib import Path

import pytest
from raster_scenes import river

# In importlib mode the folder of a test is not on the path.
sys.path.insert(0, str(Path(__file__).parent))

from small_app import model_of

from autosam.models.gauges import Domain, Gauges, Presence, embedding_summary


@pytest.fixture(scope="session")
def tiny_model(tiny_sam_folder):
    """Untrained, with gauges: rivers likely, and every picture far from those of training."""
    model = model_of(tiny_sam_folder)
    summary = embedding_summary(model.embed(river(60, 80)[0]))[0]
    domain = Domain(
        mean=tuple((summary + 5).tolist()),
        deviation=(1.0,) * len(summary),
        distances=(1.0, 4.0),
        iou=(0.9, 0.3),
    )
    return model_of(
        tiny_sam_folder, gauges=Gauges(presence=Presence(scale=0.0, shift=2.0), domain=domain)
    )


@pytest.fixture
def asking(tmp_path):
    """Opens an app on a model; gives a client whose every answer has the app's headers."""
    from starlette.testclient import TestClient

    from autosam.app.server import build_app

    with contextlib.ExitStack() as stack:

        def opened(model, **options):
            folder = tmp_path / f"uploads-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            app = build_app(model, folder, source="tiny", **options)
            client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
            client.uploads = folder
            return stack.enter_context(client)

        yield opened


@pytest.fixture
def client(asking, tiny_model):
    return asking(tiny_model)
