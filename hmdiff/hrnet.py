"""The backbone phi_I of Sec. 4.3: HRNet for classification, cut before its pooling, giving f_c.

Four branches at strides 4, 8, 16, 32 run side by side and exchange what they know after every
module. Parameter names and shapes are those of the official classification network, so that its
weights load by name: at `width=64, blocks=4, modules=(1, 4, 3), context_channels=2048` this is
HRNet-W64-C without its classifier. Unlike the official family, stem, first layer and head follow
`width` too; a slim network would otherwise spend most of its time in a wide stem.

Notation: C is `width`; branch i (from 0) has C * 2^i channels at stride 4 * 2^i.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4  # of a bottleneck's channels


def conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A padded convolution without bias and its batch norm."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(c_out)]


def conv_bn_relu(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU."""
    return nn.Sequential(*conv_bn(c_in, c_out, 3, stride), nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions about an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = conv_bn(channels, channels, 3)
        self.conv2, self.bn2 = conv_bn(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + x, inplace=True)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions about an identity; `channels * EXPANSION` come out."""

    def __init__(self, c_in: int, channels: int):
        super().__init__()
        c_out = channels * EXPANSION
        self.conv1, self.bn1 = conv_bn(c_in, channels, 1)
        self.conv2, self.bn2 = conv_bn(channels, channels, 3)
        self.conv3, self.bn3 = conv_bn(channels, c_out, 1)
        self.downsample = None if c_in == c_out else nn.Sequential(*conv_bn(c_in, c_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """B x C_in x H x W to B x 4 channels x H x W."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(y)) + identity, inplace=True)


def fuse_layer(source: int, target: int, channels: Sequence[int]) -> nn.Module | None:
    """What carries branch `source` to branch `target`: identity, upsampling, or strided steps."""
    if source == target:
        return None
    if source > target:
        up = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*conv_bn(channels[source], channels[target], 1), up)
    keep = [conv_bn_relu(channels[source], channels[source], 2) for _ in range(target - source - 1)]
    return nn.Sequential(*keep, nn.Sequential(*conv_bn(channels[source], channels[target], 3, 2)))


class Module(nn.Module):
    """One multi-resolution module: residual blocks in every branch, then full exchange."""

    def __init__(self, channels: Sequence[int], blocks: int):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels
        )
        every = range(len(channels))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse_layer(source, target, channels) for source in every)
            for target in every
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """One feature map a branch to the same."""
        x = [blocks(b) for blocks, b in zip(self.branches, branches, strict=True)]
        fused = []
        for layers in self.fuse_layers:
            parts = [b if layer is None else layer(b) for layer, b in zip(layers, x, strict=True)]
            fused.append(F.relu(sum(parts[1:], parts[0])))
        return fused


def transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """From the branches of one stage (channels `before`) to those of the next, one branch more."""
    layers: list[nn.Module | None] = [
        None if b == a else conv_bn_relu(b, a, 1) for b, a in zip(before, after, strict=False)
    ]
    layers.append(nn.Sequential(conv_bn_relu(before[-1], after[-1], 2)))
    return nn.ModuleList(layers)


def cross(layers: nn.ModuleList, x: list[Tensor]) -> list[Tensor]:
    """Apply a `transition`; the new branch starts from the lowest resolution."""
    sources = [*x, x[-1]]
    return [b if layer is None else layer(b) for layer, b in zip(layers, sources, strict=True)]


class HRNet(nn.Module):
    """Images to the context feature f_c.

    Args:
        width: C, channels of the highest-resolution branch; even (official: 64).
        blocks: residual blocks per branch and module, and in the first layer (official: 4).
        modules: modules in stages 2, 3, 4 (official: 1, 4, 3).
        context_channels: channels of f_c (official: 2048).
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 4,
        modules: Sequence[int] = (1, 4, 3),
        context_channels: int = 2048,
    ):
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"phi.width: must be an even number of channels, got {width}")
        c = [width * 2**i for i in range(4)]
        first = width * EXPANSION  # channels after layer1
        head = [channels // 2 for channels in c]
        self.conv1, self.bn1 = conv_bn(3, width, 3, 2)
        self.conv2, self.bn2 = conv_bn(width, width, 3, 2)
        self.layer1 = nn.Sequential(
            Bottleneck(width, width), *(Bottleneck(first, width) for _ in range(blocks - 1))
        )
        self.transition1 = transition([first], c[:2])
        self.transition2 = transition(c[:2], c[:3])
        self.transition3 = transition(c[:3], c)
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(Module(c[:n], blocks) for _ in range(count)))
            for n, count in zip((2, 3, 4), modules, strict=True)
        )
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(c_in, channels))
            for c_in, channels in zip(c, head, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a * EXPANSION, b * EXPANSION, 3, 2, 1),
                nn.BatchNorm2d(b * EXPANSION),
                nn.ReLU(inplace=True),
            )
            for a, b in pairwise(head)
        )
        self.final_layer = nn.Sequential(
            nn.Conv2d(head[-1] * EXPANSION, context_channels, 1),
            nn.BatchNorm2d(context_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """B x 3 x S x S images to f_c, B x context_channels x S/32 x S/32."""
        return self.context(self.pyramid(images))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """B x 3 x S x S images to the four branches; branch i is B x C*2^i x S/(4*2^i) a side."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        branches = self.stage2(cross(self.transition1, [self.layer1(x)]))
        branches = self.stage3(cross(self.transition2, branches))
        return self.stage4(cross(self.transition3, branches))

    def context(self, branches: list[Tensor]) -> Tensor:
        """The branches of `pyramid`, brought down to the lowest resolution, to f_c."""
        y, *lower = (incre(b) for incre, b in zip(self.incre_modules, branches, strict=True))
        for downsample, branch in zip(self.downsamp_modules, lower, strict=True):
            y = branch + downsample(y)
        return self.final_layer(y)
