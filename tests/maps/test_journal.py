import pytest

from autosam.errors import OutputError
from autosam.maps.journal import open_journal, remove_leftovers, unfinished


def test_a_finished_strip_is_found_again(tmp_path):
    output = tmp_path / "a.tif"
    with open_journal(output, {"model": "x"}) as journal:
        assert not journal.resumed
        assert journal.record(0) is None
        journal.raster("mask", 0).write_bytes(b"strip")
        journal.finish(0, {"water": 3})
    with open_journal(output, {"model": "x"}) as journal:
        assert journal.resumed
        assert journal.record(0) == {"water": 3}
        assert journal.raster("mask", 0).read_bytes() == b"strip"
        assert journal.record(1) is None


def test_strips_of_another_plan_are_forgotten(tmp_path):
    output = tmp_path / "a.tif"
    with open_journal(output, {"model": "x"}) as journal:
        journal.raster("mask", 0).write_bytes(b"strip")
        journal.finish(0, {"water": 3})
    with open_journal(output, {"model": "y"}) as journal:
        assert not journal.resumed
        assert journal.record(0) is None
        assert not journal.raster("mask", 0).exists()


def test_a_damaged_record_is_no_record(tmp_path):
    with open_journal(tmp_path / "a.tif", {}) as journal:
        journal.finish(0, {"water": 3})
        next(journal.folder.glob("strip-*")).write_text("{")
        assert journal.record(0) is None


def test_two_runs_on_one_output_do_not_meet(tmp_path):
    output = tmp_path / "a.tif"
    with (
        open_journal(output, {}),
        pytest.raises(OutputError, match=r"got a second for .*a\.tif"),
        open_journal(output, {}),
    ):
        pass
    with open_journal(output, {}):
        pass


def test_nothing_is_left_when_it_was_cleared(tmp_path):
    output = tmp_path / "a.tif"
    with open_journal(output, {}) as journal:
        made = journal.folder / "made.tif"
        made.write_bytes(b"whole")
        journal.publish(made, output)
        journal.finish(0, {})
        journal.clear()
    assert not unfinished(output).exists()
    assert output.read_bytes() == b"whole"


def test_an_output_below_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"file/a\.tif could not be written: Not a directory"),
        open_journal(tmp_path / "file" / "a.tif", {}),
    ):
        pass


def test_a_folder_in_the_place_of_the_output_is_one_clear_line(tmp_path):
    output = tmp_path / "a.tif"
    output.mkdir()
    with open_journal(output, {}) as journal:
        made = journal.folder / "made.tif"
        made.write_bytes(b"whole")
        with pytest.raises(OutputError, match="could not be written"):
            journal.publish(made, output)


def test_strips_whose_output_is_there_are_removed_and_no_others(tmp_path):
    output = tmp_path / "a.tif"
    with open_journal(output, {"model": "x"}) as journal:
        journal.raster("mask", 0).write_bytes(b"strip")
        journal.finish(0, {})
        remove_leftovers(output, {"model": "x"})  # a run has them in its hands
        assert journal.raster("mask", 0).exists()
    remove_leftovers(output, {"model": "y"})
    assert unfinished(output).exists()
    remove_leftovers(output, {"model": "x"})
    assert not unfinished(output).exists()
    remove_leftovers(output, {"model": "x"})
