"""What HarDNets are made of: the tables, the rule of the links, and the block that follows it.

Source:
    Chao et al. 2019, HarDNet: A Low Memory Traffic Network, https://arxiv.org/abs/1909.00948. Structure
    and key names follow PingoLH/Pytorch-HarDNet (MIT License, Copyright (c) 2019 PingoLH) so that its
    weight files load; written anew from a description of that network.
"""

import collections
import dataclasses

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """What tells one HarDNet from another."""

    stem: tuple[int, int]
    """Channels after the two stem convolutions."""
    multiplier: float
    """Width grows by this with every further link that a layer has."""
    blocks: tuple[tuple[int, int, int, bool], ...]
    """Each block's growth, number of layers, channels after its transition, and whether the side is
    halved after that."""
    depthwise: bool = False
    """A 1x1 and a depth-wise 3x3 convolution in the place of each 3x3 convolution and pool."""
    block_dropout: float = 0.0
    """Before the last transition."""
    head_dropout: float = 0.1
    """Before the classifier."""


_BLOCKS_39 = ((16, 4, 96, True), (20, 16, 320, True), (64, 8, 640, True), (160, 4, 1024, False))
_BLOCKS_68 = (
    (14, 8, 128, True), (16, 16, 256, False), (20, 16, 320, True), (40, 16, 640, True), (160, 4, 1024, False),
)  # fmt: skip
_BLOCKS_85 = (
    (24, 8, 192, True), (24, 16, 256, False), (28, 16, 320, True), (36, 16, 480, False), (48, 16, 720, True),
    (256, 4, 1280, False),
)  # fmt: skip

ARCHITECTURES = {
    "hardnet39ds": Architecture(
        stem=(24, 48), multiplier=1.6, blocks=_BLOCKS_39, depthwise=True, head_dropout=0.05
    ),
    "hardnet68": Architecture(stem=(32, 64), multiplier=1.7, blocks=_BLOCKS_68),
    "hardnet68ds": Architecture(
        stem=(32, 64), multiplier=1.7, blocks=_BLOCKS_68, depthwise=True, head_dropout=0.05
    ),
    "hardnet85": Architecture(
        stem=(48, 96), multiplier=1.7, blocks=_BLOCKS_85, block_dropout=0.1, head_dropout=0.2
    ),
}


def block_links(layers: int) -> list[list[int]]:
    """For each layer 1..`layers`, the earlier layers that it reads; 0 is the block's input.

    Layer l reads l - 2^n for every n >= 0 for which 2^n divides l, in this order.
    """
    return [
        [layer - 2**n for n in range(10) if layer % 2**n == 0] for layer in range(1, layers + 1)
    ]


def block_widths(links: list[list[int]], *, growth: int, multiplier: float) -> list[int]:
    """Output channels of each layer: the growth, multiplied once per further link, made even."""
    widths = []
    for link in links:
        width: float = growth
        for _ in link[1:]:
            width *= multiplier
        widths.append(2 * ((int(width) + 1) // 2))
    return widths


def convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution without bias, batch normalisation, and ReLU capped at 6."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return _named(conv=conv, norm=nn.BatchNorm2d(outputs), relu=nn.ReLU6(inplace=True))


def depthwise_convolution(channels: int, *, stride: int = 1) -> nn.Sequential:
    """A depth-wise convolution, which HarDNet leaves without an activation."""
    conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
    return _named(dwconv=conv, norm=nn.BatchNorm2d(channels))


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(collections.OrderedDict(modules))


class HarDBlock(nn.Module):
    """Layers whose links thin out like the harmonics of a wave.

    Args:
        inputs: Channels of the input.
        growth: Channels of a layer with one link.
        multiplier: Width grows by this with every further link.
        layers: How many.
        depthwise: Whether each layer is a 1x1 and a depth-wise 3x3 convolution.
    """

    def __init__(
        self, inputs: int, *, growth: int, multiplier: float, layers: int, depthwise: bool
    ) -> None:
        super().__init__()
        self.links = block_links(layers)
        self.widths = block_widths(self.links, growth=growth, multiplier=multiplier)
        widths = [inputs, *self.widths]
        self.layers = nn.ModuleList()
        for link, outputs in zip(self.links, self.widths, strict=True):
            read = sum(widths[earlier] for earlier in link)
            if depthwise:
                layer = _named(
                    layer1=convolution(read, outputs, kernel=1),
                    layer2=depthwise_convolution(outputs),
                )
            else:
                layer = convolution(read, outputs)
            self.layers.append(layer)
        self._kept = [n for n in range(1, layers + 1) if n % 2 == 1 or n == layers]
        self.channels = sum(widths[n] for n in self._kept)

    def forward(self, x: Tensor) -> Tensor:
        """All odd layers and the last one, concatenated in order; the input is not among them."""
        outputs = [x]
        for link, layer in zip(self.links, self.layers, strict=True):
            outputs.append(layer(torch.cat([outputs[earlier] for earlier in link], dim=1)))
        return torch.cat([outputs[n] for n in self._kept], dim=1)
