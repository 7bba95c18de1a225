import numpy as np
import pytest
import torch
from raster_scenes import river

from autosam.config import config_from_dict
from autosam.inference import logits
from autosam.inference.segmenter import AutoSam
from autosam.models.gauges import Domain, Gauges, embedding_summary

PICTURE = river(60, 80)[0]


@pytest.fixture
def gauged(tiny_sam_folder):
    """Untrained, and it measures how far a picture is from those of training."""
    settings = {
        "sam": {"name": str(tiny_sam_folder)},
        "prompt": {"network": "hardnet39ds", "side": 32},
    }
    torch.manual_seed(0)
    model = AutoSam(config_from_dict(settings), device="cpu")
    summary = embedding_summary(model.embed(PICTURE))[0]
    model.gauges = Gauges(
        presence=None,
        domain=Domain(
            mean=tuple((summary + 5).tolist()),
            deviation=(1.0,) * len(summary),
            distances=(1.0, 4.0),
            iou=(0.9, 0.3),
        ),
    )
    return model


def test_a_picture_is_put_into_its_square_once_for_mask_and_domain(gauged, monkeypatch):
    seen = []
    plain = logits.to_square

    def counted(image, side):
        seen.append(image.shape)
        return plain(image, side)

    monkeypatch.setattr(logits, "to_square", counted)
    prediction = gauged.predict_image(PICTURE)
    assert prediction.domain_distance is not None
    assert seen == [PICTURE.shape]


def test_the_domain_changes_no_mask(gauged):
    measured = gauged.predict_image(PICTURE)
    gauged.gauges = Gauges(presence=None, domain=None)
    np.testing.assert_array_equal(measured.probability, gauged.predict_image(PICTURE).probability)
    assert measured.probability.std() > 1e-4
