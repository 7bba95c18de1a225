"""No reader ever sees half a file."""

import json
import math
import os
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from autosam.errors import DataError, MissingPathError, OutputError
from autosam.files import read_json, replacing, write_json, write_text


def test_a_block_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(b"before")

    def write_half():
        with replacing(path) as beside:
            beside.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_bytes() == b"before"
    assert [item.name for item in tmp_path.iterdir()] == ["mask.png"]


def test_the_file_appears_in_one_step_with_its_suffix_kept(tmp_path):
    path = tmp_path / "new" / "mask.png"
    with replacing(path) as beside:
        beside.write_bytes(b"whole")
        assert beside.suffix == ".png"
        assert not path.exists()
    assert path.read_bytes() == b"whole"


def test_weights_are_as_open_as_every_other_file(tmp_path):
    with replacing(tmp_path / "model.safetensors") as beside:
        save_file({"weight": np.zeros(2, np.float32)}, beside)
    write_text(tmp_path / "config.json", "{}")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    assert modes[0] == modes[1] == 0o666 & ~umask()


def umask():
    present = os.umask(0)
    os.umask(present)
    return present


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Choose an output folder that you may write to"):
        write_text(tmp_path / "file" / "inside.txt", "x")


def test_a_full_disk_is_said_to_be_full(tmp_path):
    with pytest.raises(OutputError, match="the disk is full"), replacing(tmp_path / "a.bin"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_json_goes_round(tmp_path):
    write_json(tmp_path / "a.json", {"iou": 0.5, "name": "Élwha"})
    assert read_json(tmp_path / "a.json") == {"iou": 0.5, "name": "Élwha"}


def test_not_a_number_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"iou": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_json_are_told_apart(tmp_path):
    with pytest.raises(MissingPathError, match="split manifest must exist"):
        read_json(tmp_path / "none.json", what="split manifest")
    (tmp_path / "bad.json").write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(DataError, match="must be JSON"):
        read_json(tmp_path / "bad.json")
