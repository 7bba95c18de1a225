import datetime
import http.server
import io
import json
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

import autosam.data.elwha
from autosam.data.elwha import ElwhaDataset, TileName, load_elwha, parse_tile_name
from autosam.errors import AccessError, DataError, ImageError, MissingPathError

datasets = pytest.importorskip("datasets")

NAMES = [
    "Elwha_LR_20120407_014_006",
    "Elwha_MR_20160930_037_011",
    "Elwha_LR_20150923_078_020",
]
WATER = np.zeros((6, 8), bool)
WATER[2:4, 2:6] = True  # even rows and columns, so that half the size loses nothing


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()


def tile(level: int) -> Image.Image:
    return Image.fromarray(np.full((6, 8, 3), level, np.uint8))


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def png_of(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    grey(values * 255).save(buffer, "png")
    return buffer.getvalue()


def rows_of(
    count: int = 3, *, label: Image.Image | None = None, names: bool = True, level: int = 0
):
    """Rows as they come from the hub; the level of grey tells which is which."""
    columns = {
        "image": [tile(level + number) for number in range(count)],
        "label": [label or grey(WATER)] * count,
    }
    features = {"image": datasets.Image(), "label": datasets.Image()}
    if names:
        columns["name"] = NAMES[:count]
        features["name"] = datasets.Value("string")
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def test_a_tile_name_tells_reach_date_row_and_column():
    name = parse_tile_name("Elwha_LR_20120407_014_006")
    assert name == TileName("LR", datetime.date(2012, 4, 7), 14, 6)
    assert name.cell == ("LR", 14, 6)
    assert name.place == "LR_014_006"
    assert str(name) == "Elwha_LR_20120407_014_006"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Elwha_UR_20120407_014_006",
        "elwha_LR_20120407_014_006",
        "Elwha_LR_20120407_14_6",
        "Elwha_LR_20120407_014_006.png",
        "Elwha_LR_20120407_014_006\n",
        "Elwha_LR_2012040٧_014_006",
        "train_00001",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(DataError, match="must be Elwha_LR_YYYYMMDD_row_column"):
        parse_tile_name(name)


def test_a_date_outside_the_calendar_is_refused():
    with pytest.raises(DataError, match=r"date of the calendar, got 20120431 \(Elwha_MR_"):
        parse_tile_name("Elwha_MR_20120431_014_006")


def test_every_published_name_is_read_and_written_alike(shared_data):
    for file in ("useful.txt", "validation.txt"):
        names = (shared_data / "elwha_names" / file).read_text().split()
        assert [str(parse_tile_name(name)) for name in names] == names


@pytest.fixture
def saved(tmp_path):
    parts = {"train": rows_of(), "validation": rows_of(1, level=100)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture(params=["sharded as on the hub", "flat", "folders"])
def parquet(request, tmp_path):
    """The first tile in one file, the others in another, and one for validation in a third."""
    paths = {
        "sharded as on the hub": (
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002-0a1b2c3d.parquet",
            "data/validation-00000-of-00001.parquet",
        ),
        "flat": ("train-a.parquet", "train-b.parquet", "validation.parquet"),
        "folders": ("train/0.parquet", "train/1.parquet", "val/0.parquet"),
    }[request.param]
    train, validation = rows_of(), rows_of(1, level=100)
    for path, part in zip(
        paths, (train.select([0]), train.select([1, 2]), validation), strict=True
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        part.to_parquet(tmp_path / path)
    return tmp_path


def check_both_parts(source) -> None:
    train, validation = (load_elwha(source, split=part) for part in ("train", "validation"))
    assert train.names == NAMES
    assert train.tile_names_known
    assert [sample.image[0, 0, 0] for sample in train] == [0, 1, 2]
    assert (validation[0].image == 100).all()
    assert len(validation) == 1
    for sample in train:
        np.testing.assert_array_equal(sample.mask, WATER)


def test_a_saved_folder_is_read(saved):
    check_both_parts(saved)


def test_a_folder_of_parquet_files_is_read(parquet):
    check_both_parts(parquet)


def test_a_saved_single_part_is_read_when_it_says_which(tmp_path):
    part = datasets.Dataset.from_dict(
        rows_of().to_dict(), features=rows_of().features, split="train"
    )
    part.save_to_disk(tmp_path / "one")
    assert load_elwha(tmp_path / "one", split="train").names == NAMES
    with pytest.raises(DataError, match="must have the part 'validation', got train"):
        load_elwha(tmp_path / "one", split="validation")


def test_a_tile_name_gives_place_and_date(saved):
    sample = load_elwha(saved, split="train")[1]
    assert sample.name == "Elwha_MR_20160930_037_011"
    assert sample.place == "MR_037_011"
    assert sample.date == datetime.date(2016, 9, 30)
    assert sample.valid is None


@pytest.mark.parametrize(
    "label",
    [
        grey(WATER),
        grey(WATER * 255),
        Image.fromarray(WATER),
        grey(WATER[::2, ::2]),
        grey(WATER[::2, ::2] * 255),
        grey(np.kron(WATER, np.ones((3, 3))) * 255),
        Image.merge("RGB", [grey(WATER * 255)] * 3),
        grey(np.where(WATER, 1, 2)),  # the survey's own classes: 1 river, 2 river bank
    ],
    ids=["0/1", "0/255", "1 bit", "half 0/1", "half 0/255", "triple", "RGB", "with banks"],
)
def test_labels_of_every_kind_give_the_same_mask(label):
    mask = ElwhaDataset(rows_of(1, label=label), split="train", source="rows")[0].mask
    np.testing.assert_array_equal(mask, WATER)
    assert mask.dtype == np.bool_


def test_a_small_label_keeps_the_corners_of_its_pixels():
    label = np.array([[0, 0, 0], [0, 1, 0]], bool)
    rows = datasets.Dataset.from_dict(
        {"image": [Image.new("RGB", (9, 6))], "label": [grey(label * 255)]},
        features=rows_of(names=False).features,
    )
    mask = ElwhaDataset(rows, split="train", source="rows")[0].mask
    np.testing.assert_array_equal(mask, np.kron(label, np.ones((3, 3), bool)))


def test_a_label_without_water_is_an_empty_mask():
    empty = ElwhaDataset(rows_of(1, label=grey(WATER * 0)), split="train", source="rows")
    assert not empty[0].mask.any()
    assert empty[0].mask.shape == (6, 8)


def test_a_label_of_other_proportions_is_refused():
    rows = rows_of(1, label=grey(np.ones((8, 6))))
    with pytest.raises(
        DataError, match=r"tile's proportions \(6, 8\), got \(8, 6\) \(Elwha_LR_20120407_014_006"
    ):
        ElwhaDataset(rows, split="train", source="rows")[0]


def test_without_names_samples_are_numbered_and_say_so():
    tiles = ElwhaDataset(rows_of(names=False), split="validation", source="rows")
    assert tiles.names == ["validation_00000", "validation_00001", "validation_00002"]
    assert not tiles.tile_names_known
    assert tiles[2].name == "validation_00002"
    assert tiles[2].place is None
    assert tiles[2].date is None


def test_names_may_be_files_and_need_not_be_tiles():
    rows = rows_of().remove_columns("name")
    named = rows.add_column("name", ["tiles/Elwha_LR_20120407_014_006.png", " v1.2 ", "river.jpg"])
    tiles = ElwhaDataset(named, split="train", source="rows")
    assert tiles.names == ["Elwha_LR_20120407_014_006", "v1.2", "river"]
    assert not tiles.tile_names_known
    assert tiles[0].place == "LR_014_006"


def test_a_repeated_name_keeps_its_first_row_and_says_so(caplog):
    rows = rows_of().remove_columns("name").add_column("name", [NAMES[1], NAMES[0], NAMES[1]])
    tiles = ElwhaDataset(rows, split="train", source="rows")
    assert tiles.names == [NAMES[1], NAMES[0]]
    assert [sample.image[0, 0, 0] for sample in tiles] == [0, 1]
    assert tiles.repeated == (NAMES[1],)
    assert "1 names repeat" in caplog.text


def test_valid_areas_are_read_at_any_size_and_may_be_missing():
    half = WATER[::2, ::2]
    rows = rows_of(2).add_column("valid", [None, None]).cast_column("valid", datasets.Image())
    cells = [None, {"bytes": png_of(half), "path": None}]
    rows = datasets.Dataset.from_list(
        [{**row, "valid": cell} for row, cell in zip(rows, cells, strict=True)],
        features=rows.features,
    )
    tiles = ElwhaDataset(rows, split="train", source="rows")
    assert tiles[0].valid is None
    np.testing.assert_array_equal(tiles[1].valid, WATER)


def test_a_column_valid_that_holds_no_pictures_is_none_of_ours():
    rows = rows_of().add_column("valid", [True, False, True])
    assert ElwhaDataset(rows, split="train", source="rows")[1].valid is None


@pytest.mark.parametrize("name", [None, "", "  "])
def test_an_empty_name_is_refused_with_its_row(name):
    rows = rows_of().remove_columns("name").add_column("name", ["a", name, "c"])
    with pytest.raises(DataError, match=r"not empty, got .* \(row 1 of rows\)"):
        ElwhaDataset(rows, split="train", source="rows")


def test_pictures_without_labels_are_unlabelled():
    tiles = ElwhaDataset(rows_of().remove_columns("label"), split="train", source="rows")
    assert not tiles.labelled
    assert tiles[0].mask is None


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [("image", "pixels", "pixels, label"), ("label", "mask", "image, mask")],
)
def test_other_columns_are_refused_by_name(old, new, found):
    with pytest.raises(DataError, match=f"columns 'image' and 'label'.*got {found}, name"):
        ElwhaDataset(rows_of().rename_column(old, new), split="train", source="rows")


def test_a_column_that_holds_no_pictures_is_refused():
    rows = datasets.Dataset.from_dict({"image": [1, 2], "label": [3, 4]})
    with pytest.raises(DataError, match=r"column 'image' must hold pictures, got Value\('int64'\)"):
        ElwhaDataset(rows, split="train", source="rows")


def test_bytes_without_an_image_feature_are_read():
    stream = io.BytesIO()
    tile(7).save(stream, "PNG")
    rows = datasets.Dataset.from_dict({"image": [stream.getvalue()]})
    assert (ElwhaDataset(rows, split="train", source="rows")[0].image == 7).all()


def test_a_row_without_a_label_is_refused_by_name():
    rows = datasets.Dataset.from_dict(
        {"image": [tile(1), tile(2)], "label": [grey(WATER), None], "name": NAMES[:2]},
        features=rows_of().features,
    )
    tiles = ElwhaDataset(rows, split="train", source="rows")
    assert tiles[0].mask.any()
    with pytest.raises(DataError, match=rf"label must hold a picture, got nothing \({NAMES[1]}"):
        tiles[1]


@pytest.fixture
def half_damaged():
    """Rows of which the second holds no picture."""
    return datasets.Dataset.from_dict(
        {
            "image": [{"bytes": rows_of_bytes(5), "path": None}, {"bytes": b"cut", "path": None}],
            "name": NAMES[:2],
        },
        features=datasets.Features({"image": datasets.Image(), "name": datasets.Value("string")}),
    )


def rows_of_bytes(level: int) -> bytes:
    stream = io.BytesIO()
    tile(level).save(stream, "PNG")
    return stream.getvalue()


def test_only_the_asked_row_is_decoded(half_damaged):
    tiles = ElwhaDataset(half_damaged, split="train", source="rows")
    assert (tiles[0].image == 5).all()
    with pytest.raises(ImageError, match=f"{NAMES[1]} of rows"):
        tiles[1]


def test_each_sample_reads_one_image_and_one_label(saved, monkeypatch):
    read = []
    for function in ("read_image", "read_labels"):
        real = getattr(autosam.data.elwha, function)
        monkeypatch.setattr(
            autosam.data.elwha,
            function,
            lambda content, *, name, real=real: read.append(name) or real(content, name=name),
        )
    tiles = load_elwha(saved, split="train")
    assert tiles.names
    assert read == []
    tiles[-1]
    assert read == [f"{NAMES[2]} of {saved}", f"label of {NAMES[2]} of {saved}"]


def test_a_slice_is_a_part(saved):
    part = load_elwha(saved, split="train")[1:]
    assert part.names == NAMES[1:]
    assert part[0].image[0, 0, 0] == 1
    with pytest.raises(IndexError):
        part[2]


def test_worker_processes_read_the_same(saved):
    loader = DataLoader(load_elwha(saved, split="train"), batch_size=None, num_workers=2)
    read = [(sample.name, int(sample.image[0, 0, 0])) for sample in loader]
    assert read == [(NAMES[0], 0), (NAMES[1], 1), (NAMES[2], 2)]


def test_a_copy_for_another_process_maps_the_disk_again(saved):
    content = pickle.dumps(load_elwha(saved, split="train"))
    assert rows_of_bytes(1) not in content
    assert pickle.loads(content)[1].image[0, 0, 0] == 1


def test_an_unfinished_download_is_refused(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows_of().to_parquet(folder / "train-00000-of-00002.parquet")
    with pytest.raises(
        DataError, match=r"all 2 files train-\*-of-00002, got 1, without number 00001"
    ):
        load_elwha(tmp_path, split="train")


def test_leftovers_of_a_download_are_not_read(tmp_path):
    rows_of().to_parquet(tmp_path / "train.parquet")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "train-half.parquet").write_bytes(b"half")
    assert len(load_elwha(tmp_path, split="train")) == 3


def test_a_missing_part_is_named(tmp_path, saved):
    rows_of().to_parquet(tmp_path / "p" / "train.parquet")
    with pytest.raises(DataError, match=r"part 'validation', got train\.parquet"):
        load_elwha(tmp_path / "p", split="validation")
    datasets.DatasetDict({"train": rows_of()}).save_to_disk(tmp_path / "only")
    with pytest.raises(DataError, match=r"part 'validation', got train \("):
        load_elwha(tmp_path / "only", split="validation")
    with pytest.raises(DataError, match="'validation' or 'test', got 'predict'"):
        load_elwha(saved, split="predict")


def test_damaged_files_are_named(tmp_path, saved):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=f"dataset must be readable, got .*{tmp_path}"):
        load_elwha(tmp_path, split="train")
    for path in (saved / "train").glob("*.arrow"):
        path.unlink()
    with pytest.raises(DataError, match=f"saved dataset must be complete, got .*{saved}"):
        load_elwha(saved, split="train")
    (saved / "validation" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"saved dataset must be complete, got .*validation"):
        load_elwha(saved, split="validation")


def test_a_folder_of_neither_kind_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"save_to_disk or hold parquet files, got neither"):
        load_elwha(tmp_path, split="train")


@pytest.mark.parametrize(
    "source", ["/no/such/folder", "./elwha", "elwha", "a/b/c", "", "owner/", "own er/name"]
)
def test_what_is_neither_folder_nor_hub_id_is_refused(source):
    with pytest.raises(MissingPathError, match="must be a folder or a hub id"):
        load_elwha(source, split="train")


def test_a_broken_token_is_refused_without_being_printed():
    with pytest.raises(AccessError, match="must be one word") as caught:
        load_elwha("owner/name", split="train", token="hf_secret\nline")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (
            ConnectionError("Couldn't reach 'o/n' on the Hub"),
            AccessError,
            "hub must answer, got Cou",
        ),
        (
            ValueError("Unknown split \"validation\". Should be one of ['train']."),
            DataError,
            r"must have the part 'train', got: Unknown split .*o/n",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported"),
            DataError,
            "scripts are no longer",
        ),
        (OSError(28, "No space left on device"), DataError, "No space left on device"),
    ],
)
def test_what_the_datasets_library_raises_is_put_into_our_words(monkeypatch, raised, kind, words):
    def fail(*_args, **_options):
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(kind, match=words):
        load_elwha("o/n", split="train")


# The hub's own protocol, on this machine: what the client really raises, and really sends.
class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one private dataset, open to one token, and some that only refuse."""

    files: dict[str, bytes]
    asked_with: set[str]
    token = "hf_right"
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self) -> None:
        self.asked_with.add(self.headers.get("authorization", ""))
        if "owner/private" in self.path:
            if self.headers.get("authorization") != f"Bearer {self.token}":
                self.answer(401, code="RepoNotFound")
            else:
                self.serve()
        elif "owner/gated" in self.path:
            self.answer(403, code="GatedRepo")
        elif "owner/forbidden" in self.path:
            self.answer(403)
        elif "/v9/" in self.path:
            self.answer(404, code="RevisionNotFound")
        else:
            self.answer(404, code="RepoNotFound")

    do_HEAD = do_POST = do_GET

    def serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        path = self.path.split("?")[0]
        if "/resolve/" in path:
            name = path.split("/resolve/")[1].split("/", 1)[1]
            if name in self.files:
                self.answer(200, self.files[name])
            else:
                self.answer(404, code="EntryNotFound")
        elif path.endswith("/data"):
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": f"{len(content):040x}"}
                for name, content in self.files.items()
            ]
            self.answer(200, json.dumps(listed).encode())
        elif "/tree/" in path:
            folder = [{"type": "directory", "path": "data", "size": 0, "oid": "0" * 40}]
            self.answer(200, json.dumps(folder).encode())
        else:
            siblings = [{"rfilename": name} for name in self.files]
            facts = {"id": "owner/private", "sha": self.commit, "siblings": siblings, "tags": []}
            self.answer(200, json.dumps(facts).encode())

    def answer(self, status: int, content: bytes = b"{}", code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{len(content):040x}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_args: object) -> None:
        pass


ASK = """
import json, sys
from autosam.data.elwha import load_elwha
from autosam.errors import AutoSamError
answers = []
for options in json.loads(sys.argv[1]):
    try:
        tiles = load_elwha(options.pop("source"), split="validation", **options)
        answers.append([tiles.names, int(tiles[0].image[0, 0, 0]), int(tiles[0].mask.sum())])
    except AutoSamError as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


def ask(home, endpoint: str, *questions: dict[str, str], **environment: str) -> list[list[object]]:
    """Load in a process of its own, for the client reads its environment once."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(questions)],
        env={**clean, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    for part, rows in (("train", rows_of()), ("validation", rows_of(1, level=100))):
        rows.to_parquet(folder / f"{part}.parquet")
    Hub.files = {
        f"data/{part}-00000-of-00001.parquet": (folder / f"{part}.parquet").read_bytes()
        for part in ("train", "validation")
    }
    Hub.asked_with = set()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_hub_is_asked_with_the_token_and_its_refusals_say_how_to_log_in(endpoint, tmp_path):
    stored, wrong, gated, forbidden, unknown, revision, right = ask(
        tmp_path,
        endpoint,
        {"source": "owner/private"},
        {"source": "owner/private", "token": "hf_wrong"},
        {"source": "owner/gated"},
        {"source": "owner/forbidden"},
        {"source": "owner/unknown"},
        {"source": "owner/unknown", "revision": "v9"},
        {"source": "owner/private", "token": Hub.token},
        HF_TOKEN="hf_environment",
    )
    for kind, text in (stored, wrong, forbidden, unknown):
        assert kind == "AccessError"
        assert "dataset must exist and be open to you" in text
        assert "`hf auth login`, set HF_TOKEN, or pass token=" in text
        assert "hf_wrong" not in text
    assert "(owner/private)" in stored[1]
    assert gated[0] == "AccessError"
    assert "whose terms you have not accepted (owner/gated)" in gated[1]
    assert revision[0] == "DataError"
    assert "revision must exist, got Revision 'v9'" in revision[1]
    assert {"Bearer hf_environment", "Bearer hf_wrong"} < Hub.asked_with
    assert right == [NAMES[:1], 100, int(WATER.sum())]

    # What was downloaded serves without the hub; what was not says so.
    cached, absent = ask(
        tmp_path,
        "http://127.0.0.1:9",
        {"source": "owner/private"},
        {"source": "owner/unknown"},
        HF_HUB_OFFLINE="1",
    )
    assert cached == right
    assert absent[0] == "AccessError"
    assert "before it is used offline, got 'owner/unknown' (HF_HUB_OFFLINE is set)" in absent[1]
