"""SAM's own image encoder on a processor: the same function of the same weights, in pieces that fit a cache.

Nothing is approximated; only the order of work differs from transformers' `SamVisionEncoder`:

- Windowed layers go strip by strip of windows, and all else by rows, so that no temporary is so large that
  the system must hand out its pages anew each time.
- Window padding has zeros for input, so its keys and values are the bias of their layer: no product with
  weights is spent on it.
- The bias of relative positions in global attention (grid⁴ values a head) is made for a few rows of one head
  at a time, where it is used.
- Under autocast each layer's weights are rounded once, not in every strip, and what runs through all layers
  stays in float32.

That a bias can also be written as more channels of queries and keys was tried: .6 of this speed in global
attention, since torch's fused attention then asks for as many channels of values; equal in windows.
"""

import copy
import functools
import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.sam.modeling_sam import SamVisionEncoder

from autosam.types import ImageEmbedding, Pixels

STRIP_BYTES = 2**24
"""Of the widest temporary of a strip. Below glibc's largest threshold of 32 MiB for memory that it keeps."""
BIAS_BYTES = 2**23
"""Of the bias that is made at once: it stays in the last cache between its making and its use."""
SHORT_SIDE = 32
"""Of a window, up to which bfloat16 sums of rows so short take ten times as long as a product does."""
THREADS_OF_A_HEAD = 8
"""That find work in the rows of one head; with more, several heads are attended at once."""

Hidden = Float[Tensor, "1 rows width channels"]
Heads = Float[Tensor, "images heads tokens depth"]
Relations = Float[Tensor, "images heads rows width side"]
"""What each query adds to the keys of each row, or of each column."""


def encodes_in_strips(encoder: nn.Module, pixels: Pixels) -> bool:
    """Whether `encode_in_strips` is of use: SAM's own transformer on a processor, and no gradient.

    Not while a graph is drawn of it: an exporter does better with whole layers than with strips.

    Args:
        encoder: Of any kind.
        pixels: What it is to encode.
    """
    if not isinstance(encoder, SamVisionEncoder) or pixels.device.type != "cpu":
        return False
    return not (torch.compiler.is_compiling() or takes_gradient(encoder, pixels))


def takes_gradient(encoder: nn.Module, pixels: Pixels) -> bool:
    """Whether what is encoded now will be differentiated."""
    wanted = pixels.requires_grad or any(p.requires_grad for p in encoder.parameters())
    return torch.is_grad_enabled() and wanted


def encode_in_strips(encoder: nn.Module, pixels: Pixels) -> ImageEmbedding:
    """What `encoder(pixels).last_hidden_state` is, to rounding; under autocast, layers in its format.

    Args:
        encoder: transformers' `SamVisionEncoder`, in evaluation mode.
        pixels: (batch, 3, side, side), normalised.
    """
    vision = cast(Any, encoder)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    with torch.autocast("cpu", enabled=False):
        hidden = vision.patch_embed(pixels)
        if vision.pos_embed is not None:
            hidden = hidden + vision.pos_embed
        images = list(hidden.split(1))  # on a processor a batch is no faster
        for layer in vision.layers:
            through = _windowed if layer.window_size > 0 else _global
            narrow = layer if dtype is None else _products_in(layer, dtype)
            images = [through(narrow, image) for image in images]
        return cast(Tensor, vision.neck(torch.cat(images)))


def _products_in(layer: Any, dtype: torch.dtype) -> Any:
    """The layer with the weights of attention and MLP in another format; its norms are the layer's own."""
    narrow = [*layer.attn.parameters(), *layer.mlp.parameters()]
    known: dict[int, Any] = {id(one): one for one in layer.parameters()}
    known |= {id(one): nn.Parameter(one.to(dtype), requires_grad=False) for one in narrow}
    return copy.deepcopy(layer, known)


def _narrowed(hidden: Tensor, layer: Any) -> Tensor:
    """In the format of the layer's products."""
    return hidden.to(layer.attn.qkv.weight.dtype)


def _windowed(layer: Any, hidden: Hidden) -> Hidden:
    """A layer whose attention stays within windows: strips of windows know nothing of each other."""
    out = torch.empty_like(hidden)
    for rows in _strips(layer, hidden, multiple=layer.window_size):
        strip = hidden[:, rows]
        out[:, rows] = _after_attention(layer, strip, _attended_in_windows(layer, strip))
    return out


def _attended_in_windows(layer: Any, strip: Hidden) -> Hidden:
    """Attention of a strip, before its projection."""
    attention, side = layer.attn, layer.window_size
    heads, (_, rows, width, channels) = attention.num_attention_heads, strip.shape
    high, wide = -(-rows // side), -(-width // side)
    mixed = attention.qkv(_narrowed(layer.layer_norm1(strip), layer))
    mixed = _padded(mixed, attention, (high * side, wide * side))
    parts = mixed.view(high, side, wide, side, 3, heads, channels // heads)
    queries, keys, values = parts.permute(4, 0, 2, 5, 1, 3, 6).reshape(
        3, high * wide, heads, side * side, -1
    )
    bias = None
    if attention.use_rel_pos:
        down, across = _relations(attention, queries.unflatten(2, (side, side)), range(side))
        bias = _bias(down, across)
    found = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    tiles = found.view(high, wide, heads, side, side, -1).permute(0, 3, 1, 4, 2, 5)
    whole = tiles.reshape(1, high * side, wide * side, channels)
    return whole[:, :rows, :width].contiguous()


def _padded(mixed: Tensor, attention: Any, size: tuple[int, int]) -> Tensor:
    """Queries, keys and values with those of the padding, whose input is zero."""
    _, rows, width, channels = mixed.shape
    if (rows, width) == size:
        return mixed
    padded = mixed.new_zeros((1, *size, channels))
    if attention.qkv.bias is not None:
        padded += attention.qkv.bias.to(mixed.dtype)
    padded[:, :rows, :width] = mixed
    return padded


def _global(layer: Any, hidden: Hidden) -> Hidden:
    """A layer in which every token attends to every other."""
    attention, (_, high, wide, channels) = layer.attn, hidden.shape
    heads = attention.num_attention_heads
    projections: list[Tensor] = []
    for rows in _strips(layer, hidden):
        mixed = attention.qkv(_narrowed(layer.layer_norm1(hidden[:, rows]), layer))
        if not projections:
            shape = (heads, high, wide, channels // heads)
            projections = [mixed.new_empty(shape) for _ in range(3)]
        parts = mixed.view(-1, wide, 3, heads, channels // heads).permute(2, 3, 0, 1, 4)
        for whole, part in zip(projections, parts, strict=True):
            whole[:, rows] = part
    found = _attended_by_head(attention, *projections)
    out = torch.empty_like(hidden)
    for rows in _strips(layer, hidden):
        tokens = found[:, rows].permute(1, 2, 0, 3).reshape(1, -1, wide, channels)
        out[:, rows] = _after_attention(layer, hidden[:, rows], tokens)
    return out


def _after_attention(layer: Any, strip: Hidden, found: Hidden) -> Hidden:
    """The rest of a layer: projection and MLP, each added to what runs through."""
    attended: Tensor = strip + layer.attn.proj(found).to(strip.dtype)
    mixed: Tensor = layer.mlp(_narrowed(layer.layer_norm2(attended), layer))
    return attended + mixed.to(strip.dtype)


def _attended_by_head(
    attention: Any, queries: Tensor, keys: Tensor, values: Tensor
) -> Float[Tensor, "heads high wide depth"]:
    """Global attention; all three are (heads, high, wide, depth)."""
    heads, high, wide, _ = queries.shape
    out = torch.empty_like(queries)
    together = math.ceil(torch.get_num_threads() / THREADS_OF_A_HEAD)
    row_bytes = wide * high * wide * queries.element_size()
    step = max(1, BIAS_BYTES // row_bytes)
    for first in range(0, heads, together):
        some = slice(first, first + together)
        key, value = keys[None, some].flatten(2, 3), values[None, some].flatten(2, 3)
        for top in range(0, high, step):
            rows = range(top, min(top + step, high))
            query, bias = queries[None, some, top : rows.stop], None
            if attention.use_rel_pos:
                bias = _bias(*_relations(attention, query, rows))
            found = functional.scaled_dot_product_attention(
                query.flatten(2, 3), key, value, attn_mask=bias
            )
            out[some, top : rows.stop] = found[0].reshape(query.shape[1:])
    return out


def _relations(attention: Any, queries: Tensor, rows: range) -> tuple[Relations, Relations]:
    """The products of queries with the relative positions of all rows and of all columns.

    Args:
        attention: Whose tables of relative positions they are.
        queries: (images, heads, rows, width, depth).
        rows: Which rows of the square the queries stand in.
    """
    side = (len(attention.rel_pos_h) + 1) // 2
    where = _distances(side)
    down, across = attention.rel_pos_h[where[rows.start : rows.stop]], attention.rel_pos_w[where]
    return (
        torch.einsum("nhrwc,rkc->nhrwk", queries, down).contiguous(),
        torch.einsum("nhrwc,wkc->nhrwk", queries, across).contiguous(),
    )


def _bias(down: Relations, across: Relations) -> Float[Tensor, "images heads queries keys"]:
    """A key's row and column each add their own."""
    side = down.shape[-1]
    if down.dtype == torch.bfloat16 and side <= SHORT_SIDE:
        both = torch.cat([down, across], dim=-1).flatten(2, 3)
        return both @ _row_and_column(side).to(both.dtype)
    return (down[..., :, None] + across[..., None, :]).flatten(4).flatten(2, 3)


@functools.lru_cache(maxsize=8)
def _row_and_column(side: int) -> Float[Tensor, "both keys"]:
    """(2 side, side²): 1 where a key lies in a row, and below it in a column."""
    with torch.inference_mode(False):
        one = torch.eye(side)
        return torch.cat([one.repeat_interleave(side, dim=1), one.repeat(1, side)])


@functools.lru_cache(maxsize=8)
def _distances(side: int) -> Tensor:
    """(side, side): where the distance from one coordinate to another stands in a table of 2 side - 1."""
    with torch.inference_mode(False):
        along = torch.arange(side)
        return along[:, None] - along[None, :] + side - 1


def _strips(layer: Any, hidden: Hidden, *, multiple: int = 1) -> Iterator[slice]:
    """Rows of the picture, of which the widest temporary keeps to `STRIP_BYTES`.

    Args:
        layer: Of the encoder.
        hidden: Its input.
        multiple: Strips are of as many rows, or a multiple of it.
    """
    _, high, wide, channels = hidden.shape
    widest = max(3 * channels, layer.mlp.lin1.out_features)
    fitting = STRIP_BYTES // (wide * widest * layer.mlp.lin1.weight.element_size())
    step = max(1, fitting // multiple) * multiple
    for top in range(0, high, step):
        yield slice(top, min(top + step, high))
