"""Names, sources and everything that can be wrong with a SAM's files."""

import json
import shutil
import types
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import SamConfig, SamModel

from autosam.errors import AccessError, CheckpointError, MissingPathError, ModelError
from autosam.models.sam import canonical_state, load_sam, save_sam_hub, save_sam_meta
from autosam.models.sam_nano import NanoTensors
from autosam.models.sam_sources import SamSource, read_weights
from autosam.models.sam_weights import (
    canonical_from_meta,
    config_from_shapes,
    fingerprint,
    meta_from_canonical,
    tensor_digest,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM of side 64 in hub format, of an architecture that Meta's format can tell."""
    path = tmp_path_factory.mktemp("sam")
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "global_attn_indexes": [0, 2],
            "image_size": 64,
            "window_size": 3,
            "output_channels": 32,
            "num_pos_feats": 16,
            "mlp_dim": 48,
        },
        prompt_encoder_config={"image_size": 64, "hidden_size": 32, "mask_input_channels": 8},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_hidden_layers": 1,
            "iou_head_depth": 4,
            "iou_head_hidden_dim": 24,
            "num_multimask_outputs": 2,
        },
    )
    torch.manual_seed(2)
    SamModel(config).save_pretrained(path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def rewrite_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            config[part][name] = value
        else:
            config[part] = value
    (folder / "config.json").write_text(json.dumps(config))


def rewrite_weights(folder: Path, change: Any) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


META_NAMES = {
    "image_encoder.pos_embed": "vision_encoder.pos_embed",
    "image_encoder.patch_embed.proj.bias": "vision_encoder.patch_embed.projection.bias",
    "image_encoder.blocks.11.norm2.weight": "vision_encoder.layers.11.layer_norm2.weight",
    "image_encoder.blocks.0.attn.rel_pos_w": "vision_encoder.layers.0.attn.rel_pos_w",
    "image_encoder.neck.3.bias": "vision_encoder.neck.layer_norm2.bias",
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (
        "shared_image_embedding.positional_embedding"
    ),
    "prompt_encoder.point_embeddings.3.weight": "prompt_encoder.point_embed.3.weight",
    "prompt_encoder.mask_downscaling.4.weight": "prompt_encoder.mask_embed.layer_norm2.weight",
    "prompt_encoder.mask_downscaling.6.bias": "prompt_encoder.mask_embed.conv3.bias",
    "mask_decoder.transformer.layers.1.norm4.bias": (
        "mask_decoder.transformer.layers.1.layer_norm4.bias"
    ),
    "mask_decoder.transformer.norm_final_attn.weight": (
        "mask_decoder.transformer.layer_norm_final_attn.weight"
    ),
    "mask_decoder.output_upscaling.1.weight": "mask_decoder.upscale_layer_norm.weight",
    "mask_decoder.output_upscaling.3.bias": "mask_decoder.upscale_conv2.bias",
    "mask_decoder.output_hypernetworks_mlps.2.layers.0.weight": (
        "mask_decoder.output_hypernetworks_mlps.2.proj_in.weight"
    ),
    "mask_decoder.output_hypernetworks_mlps.2.layers.1.weight": (
        "mask_decoder.output_hypernetworks_mlps.2.layers.0.weight"
    ),
    "mask_decoder.output_hypernetworks_mlps.2.layers.2.weight": (
        "mask_decoder.output_hypernetworks_mlps.2.proj_out.weight"
    ),
}


def test_names_are_those_that_both_publishers_use() -> None:
    assert canonical_from_meta(META_NAMES) == META_NAMES
    assert meta_from_canonical(META_NAMES.values()) == {v: k for k, v in META_NAMES.items()}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("base", (768, 12, 12, [2, 5, 8, 11], 3072)),
        ("large", (1024, 24, 16, [5, 11, 17, 23], 4096)),
        ("huge", (1280, 32, 16, [7, 15, 23, 31], 5120)),
    ],
)
def test_the_architecture_of_the_published_sizes_is_read_off_their_shapes(
    size: str, expected: tuple[Any, ...]
) -> None:
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        state = sam_model_registry[{"base": "vit_b", "large": "vit_l", "huge": "vit_h"}[size]]()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.state_dict().items()}
    names = canonical_from_meta(shapes)
    config = config_from_shapes({names[key]: shape for key, shape in shapes.items()}, where=size)
    vision = config["vision_config"]
    hidden, layers, heads, global_layers, mlp = expected
    assert vision["hidden_size"] == hidden
    assert vision["num_hidden_layers"] == layers
    assert vision["num_attention_heads"] == heads
    assert vision["global_attn_indexes"] == global_layers
    assert vision["mlp_dim"] == mlp
    assert (vision["window_size"], vision["image_size"], vision["patch_size"]) == (14, 1024, 16)
    with torch.device("meta"):
        stock = SamModel(SamConfig(vision_config=vision)).state_dict()
    stock.pop("prompt_encoder.shared_embedding.positional_embedding")
    assert {names[k]: s for k, s in shapes.items()} == {k: tuple(v.shape) for k, v in stock.items()}


def test_an_unusual_architecture_survives_metas_format(folder: Path, tmp_path: Path) -> None:
    sam = load_sam(folder)
    save_sam_meta(sam, tmp_path / "sam.pth")
    again = load_sam(tmp_path / "sam.pth")
    pixels = torch.randn(1, 3, 64, 64)
    assert again.fingerprint == sam.fingerprint
    assert torch.equal(again.embed(pixels), sam.embed(pixels))
    prompt = torch.randn(1, 32, 4, 4)
    assert torch.equal(again.decode(prompt, prompt), sam.decode(prompt, prompt))


def test_an_architecture_that_metas_format_cannot_tell_is_not_written(
    tiny_sam: Any, tmp_path: Path
) -> None:
    if tiny_sam.config.mask_decoder_config.num_attention_heads == 8:
        tiny_sam.config.mask_decoder_config.num_attention_heads = 2
    with pytest.raises(ModelError, match=r"num_attention_heads': 2.*Write it with save_sam_hub"):
        save_sam_meta(tiny_sam, tmp_path / "sam.pth")
    assert not list(tmp_path.iterdir())


def test_settings_that_mean_nothing_to_sam_do_not_keep_it_from_being_written(
    copy: Path, tmp_path: Path
) -> None:
    # The published configurations carry what every model of their time had.
    rewrite_config(
        copy,
        vision_config__pruned_heads={},
        mask_decoder_config__max_length=20,
        torch_dtype="float32",
    )
    sam = load_sam(copy)
    save_sam_meta(sam, tmp_path / "sam.pth")
    assert load_sam(tmp_path / "sam.pth").fingerprint == sam.fingerprint


def test_the_tied_positional_matrix_is_found_under_its_second_name(
    folder: Path, copy: Path
) -> None:
    def rename(state: dict[str, Tensor]) -> None:
        state["prompt_encoder.shared_embedding.positional_embedding"] = state.pop(
            "shared_image_embedding.positional_embedding"
        )

    rewrite_weights(copy, rename)
    assert load_sam(copy).fingerprint == load_sam(folder).fingerprint


def test_a_fingerprint_is_the_hash_of_names_shapes_and_float32_bytes_in_order() -> None:
    import hashlib

    tensors = {"b": torch.tensor([[1.0, 2.0]]).half(), "a": torch.tensor([3.0])}
    digests = {key: tensor_digest(tensor) for key, tensor in tensors.items()}
    # 3.0, 1.0 and 2.0 as little-endian IEEE 754 single precision, written by hand.
    a = hashlib.sha256(b"(1,)" + bytes.fromhex("00004040")).digest()
    b = hashlib.sha256(b"(1, 2)" + bytes.fromhex("0000803f00000040")).digest()
    expected = hashlib.sha256(b"a\0" + a + b"b\0" + b).hexdigest()
    assert fingerprint(digests) == expected
    assert tensor_digest(torch.tensor([[1.0], [2.0]])) != digests["b"]
    transposed = torch.tensor([[1.0, 3.0], [2.0, 4.0]]).T
    assert tensor_digest(transposed) == tensor_digest(transposed.contiguous())


class CountedTensors(Mapping[str, Tensor]):
    """Weights of which at most one at a time may be alive."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes, self.last, self.read = shapes, lambda: None, 0

    def __getitem__(self, key: str) -> Tensor:
        assert self.last() is None, f"the weight before {key} is still in memory"
        self.read += 1
        tensor = torch.zeros(self.shapes[key])
        self.last = weakref.ref(tensor)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def test_leaving_the_encoder_out_reads_it_one_weight_at_a_time() -> None:
    shapes = {f"vision_encoder.{i}": (4, 4) for i in range(5)}
    tensors = CountedTensors(shapes)
    source = SamSource(where="here", config={}, tensors=tensors)
    state, digests = read_weights(source, shapes, encoder=False)
    assert (state, len(digests), tensors.read) == ({}, 5, 5)


def test_a_loaded_sam_does_not_follow_its_file(copy: Path) -> None:
    sam = load_sam(copy)
    before = sam.mask_decoder.iou_token.weight.clone()
    (copy / "model.safetensors").write_bytes(b"\0" * 100)
    assert torch.equal(sam.mask_decoder.iou_token.weight, before)


def test_nanos_weights_have_unit_gain_and_do_not_depend_on_each_other() -> None:
    key = "vision_encoder.layers.0.mlp.lin1.weight"
    alone = NanoTensors({key: (768, 192)})[key]
    both = NanoTensors({"vision_encoder.pos_embed": (1, 4, 4, 8), key: (768, 192)})
    assert torch.equal(both[key], alone)
    assert set(both) == {"vision_encoder.pos_embed", key}
    assert len(both) == 2
    response = torch.randn(1000, 192) @ alone.T
    assert float(response.std()) == pytest.approx(1, abs=0.03)


# What can be wrong with the files.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nanoo", "got 'nanoo'. Did you mean 'nano'"),
        ("hug", "Did you mean 'huge'"),
        ("vit-x-unknown", "Choose one of: base, huge, large, nano"),
    ],
)
def test_an_unknown_name_suggests_a_known_one(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_sam(name)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "sam_vit_b.pth", "~/nowhere/sam"])
def test_a_path_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(MissingPathError, match="SAM must be a file or folder that exists, got"):
        load_sam(name)


def test_a_folder_without_configuration_or_weights_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "other.safetensors")
    with pytest.raises(MissingPathError, match=r"must hold model\.safetensors"):
        load_sam(copy)
    (copy / "config.json").unlink()
    with pytest.raises(MissingPathError, match=r"SAM's config\.json must exist"):
        load_sam(copy)


def test_a_pickled_folder_is_refused_with_the_way_to_convert_it(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(MissingPathError, match=r"got pytorch_model\.bin.*save_pretrained"):
        load_sam(copy)


@pytest.mark.parametrize("kept", [0, 4, 500, 0.5])
def test_a_truncated_safetensors_file_is_refused(copy: Path, kept: float) -> None:
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept > 1 or kept == 0 else kept * len(whole))])
    with pytest.raises(CheckpointError, match=r"must be readable.*download it again"):
        load_sam(copy)


def test_a_lone_safetensors_file_is_refused_with_the_folder_to_give(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"Give the folder that holds it"):
        load_sam(folder / "model.safetensors")


def test_a_missing_or_nameless_shard_is_refused(folder: Path, tmp_path: Path) -> None:
    SamModel.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size="50KB")
    index = tmp_path / "model.safetensors.index.json"
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(MissingPathError, match=r"weight shard must exist, got .*model-00002"):
        load_sam(tmp_path)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="no weight_map"):
        load_sam(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "must be a SAM .*got model_type 'bert'"),
        ({"model_type": "sam2"}, "got model_type 'sam2'"),
        ({"vision_config__num_hidden_layers": 4}, "got 14 missing"),
        ({"vision_config__num_hidden_layers": 2}, "14 left over"),
        (
            {"vision_config__mlp_dim": 64},
            r"lin1\.weight must have shape \(64, 32\), got \(48, 32\)",
        ),
        ({"vision_config__output_channels": 64}, "must agree on channels"),
        ({"prompt_encoder_config__image_size": 128}, r"must agree on .*sides \[64, 128\]"),
        ({"vision_config__patch_size": 0}, "must describe a SAM that can be built"),
        ({"vision_config__image_size": "wide"}, "must describe a SAM that can be built"),
        ({"mask_decoder_config__num_attention_heads": 3}, "must describe a SAM that can be built"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    copy: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite_config(copy, **changes)
    with pytest.raises(ModelError, match=message):
        load_sam(copy)


@pytest.mark.parametrize("text", ["[]", "null", '"sam"'])
def test_a_configuration_that_is_no_mapping_is_refused(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(ModelError, match="must be a SAM"):
        load_sam(copy)


def test_weights_that_are_no_finite_numbers_are_refused(copy: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> None:
        state["mask_decoder.iou_token.weight"][0, 3] = float("nan")

    rewrite_weights(copy, spoil)
    with pytest.raises(CheckpointError, match=r"iou_token\.weight must hold finite"):
        load_sam(copy)

    def quantise(state: dict[str, Tensor]) -> None:
        state["mask_decoder.iou_token.weight"] = torch.zeros(1, 32, dtype=torch.int8)

    rewrite_weights(copy, quantise)
    with pytest.raises(CheckpointError, match=r"iou_token\.weight .*got torch\.int8"):
        load_sam(copy)


@pytest.fixture
def meta_file(folder: Path, tmp_path: Path) -> Path:
    save_sam_meta(load_sam(folder), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_meta_file_is_refused(meta_file: Path, kept: float) -> None:
    whole = meta_file.read_bytes()
    meta_file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CheckpointError, match=r"must be readable.*sam\.pth.*download it again"):
        load_sam(meta_file)


def test_a_meta_file_in_torchs_old_format_is_read(folder: Path, tmp_path: Path) -> None:
    sam = load_sam(folder)
    state = canonical_state(sam)
    names = meta_from_canonical(state)
    path = tmp_path / "old.pth"
    torch.save(
        {names[key]: tensor for key, tensor in state.items()},
        path,
        _use_new_zipfile_serialization=False,
    )
    assert load_sam(path).fingerprint == sam.fingerprint


class Trap:
    """What a hostile file carries: a call that would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_code_inside_a_meta_file_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"weights": Trap(trace)}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match="must be readable"):
        load_sam(tmp_path / "hostile.pth")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "mapping from names to tensors, got Tensor"),
        ({"epoch": 3}, "mapping from names to tensors, got dict"),
        ({"layer1.weight": torch.zeros(3)}, "must be a SAM's"),
        ({}, "must be a SAM's"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=message):
        load_sam(tmp_path / "other.pth")


def test_missing_and_left_over_weights_of_a_meta_file_are_named(meta_file: Path) -> None:
    state = torch.load(meta_file, weights_only=True)
    torch.save({**state, "mask_decoder.hf_token.weight": torch.zeros(1, 32)}, meta_file)
    with pytest.raises(CheckpointError, match=r"1 left over \['mask_decoder\.hf_token\.weight'\]"):
        load_sam(meta_file)
    state.pop("mask_decoder.iou_token.weight")
    torch.save(state, meta_file)
    with pytest.raises(CheckpointError, match=r"1 missing \['mask_decoder\.iou_token\.weight'\]"):
        load_sam(meta_file)


# What can be wrong with the hub.


def answer(status: int) -> Any:
    request = types.SimpleNamespace(method="GET", url="hub")
    return types.SimpleNamespace(status_code=status, headers={}, request=request)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (RepositoryNotFoundError("?", response=answer(401)), AccessError, "hf auth login"),
        (GatedRepoError("?", response=answer(403)), AccessError, "private, gated"),
        (HfHubHTTPError("token", response=answer(401)), AccessError, "token was refused"),
        (HfHubHTTPError("busy", response=answer(503)), ModelError, r"\(busy\).*give their folder"),
        (RevisionNotFoundError("?", response=answer(404)), ModelError, "got 'v9'. Leave it out"),
        (ConnectionError("no route"), ModelError, r"no route.*Meta's \.pth files"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(kind, match=message) as caught:
        load_sam("somebody/river-sam", revision="v9")
    assert "somebody/river-sam" in str(caught.value)


def test_offline_without_a_local_copy_says_so() -> None:
    with pytest.raises(ModelError, match=r"'facebook/sam-vit-large' \(HF_HUB_OFFLINE is set\)"):
        load_sam("large")


def test_the_hub_is_asked_for_configuration_and_safetensors_only(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    asked = {}

    def download(hub_id: str, **arguments: Any) -> str:
        asked.update(arguments, hub_id=hub_id)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    sam = load_sam("base", revision="abc", token="secret")
    assert sam.name == "base"
    assert not sam.is_random
    assert (asked["hub_id"], asked["revision"], asked["token"]) == (
        "facebook/sam-vit-base",
        "abc",
        "secret",
    )
    assert not any("bin" in pattern or "h5" in pattern for pattern in asked["allow_patterns"])


def test_an_incomplete_local_copy_of_a_hub_model_names_the_model(
    monkeypatch: pytest.MonkeyPatch, copy: Path
) -> None:
    (copy / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(copy))
    with pytest.raises(MissingPathError, match="It is the local copy of 'facebook/sam-vit-huge'"):
        load_sam("huge")


def test_a_written_folder_replaces_an_older_one_whole(folder: Path, tmp_path: Path) -> None:
    sam = load_sam(folder)
    for _ in range(2):
        save_sam_hub(sam, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert load_sam(tmp_path).fingerprint == sam.fingerprint
