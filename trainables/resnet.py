"""ResNet-18 over S replicas at once, as the paper uses it: 3×3 stem, no max-pool (He et al. 2016; §5.1 and §5.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from trainables.backbones import ReplicatedLinear
from trainables.kernels import MODES, Computed, Kernel, Mode
from trainables.patches import convolve

Features = Literal["mean-of-maps", "pooled"]
#: on a CPU, replicas run faster one after another from so many maps on; narrower ones waste its vectors
LOOPED_FROM = 8


class ReplicatedConv2d(nn.Module):
    """S convolutions without bias: ``weight`` (S, out, in, k, k), padding k // 2.

    One convolution in S groups of maps (B, S·C, H, W), and matrix products over patches of maps (S, C, B, H, W).

    Initialised as ``torch.nn.Conv2d`` is, U[−1/√(in·k²), 1/√(in·k²)], replica s from its own generator.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, kernel // 2
        bound = 1 / math.sqrt(inputs * kernel**2)
        drawn = torch.stack([torch.rand(outputs, inputs, kernel, kernel, generator=g) for g in generators])
        self.weight = nn.Parameter((2 * drawn - 1) * bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S·in, H, W) -> (B, S·out, H', W'), or (S, in, B, H, W) -> (S, out, B, H', W')."""
        if x.dim() == 5:
            return convolve(x, self.weight, self.stride, self.padding)
        replicas = len(self.weight)
        return functional.conv2d(
            x, self.weight.flatten(0, 1), stride=self.stride, padding=self.padding, groups=replicas
        )


class ReplicatedBatchNorm2d(nn.Module):
    """S batch normalisations: a replica has channels of its own, so its statistics are its own by construction.

    ``weight``, ``bias``, ``running_mean`` and ``running_var`` are (S, C); eps and momentum are torch's defaults.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, replicas: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(replicas, channels))
        self.bias = nn.Parameter(torch.zeros(replicas, channels))
        self.register_buffer("running_mean", torch.zeros(replicas, channels))
        self.register_buffer("running_var", torch.ones(replicas, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S·C, …) or (S, C, B, H, W) -> the same shape."""
        if x.dim() == 5:
            # each replica's channels beside each other, over all values of the batch
            return self._normalised(x.reshape(1, self.weight.numel(), -1)).view_as(x)
        return self._normalised(x)

    def _normalised(self, x: Tensor) -> Tensor:
        # views, so that the running statistics are updated in place
        mean, var = self.running_mean.view(-1), self.running_var.view(-1)
        return functional.batch_norm(x, mean, var, self.weight.flatten(), self.bias.flatten(), training=self.training)


class ReplicatedBasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.conv1 = ReplicatedConv2d(inputs, outputs, 3, stride, generators)
        self.bn1 = ReplicatedBatchNorm2d(len(generators), outputs)
        self.conv2 = ReplicatedConv2d(outputs, outputs, 3, 1, generators)
        self.bn2 = ReplicatedBatchNorm2d(len(generators), outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                ReplicatedConv2d(inputs, outputs, 1, stride, generators),
                ReplicatedBatchNorm2d(len(generators), outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = torch.relu_(self.bn1(self.conv1(x)))
        return torch.relu_(self.bn2(self.conv2(y)).add_(shortcut))


class ReplicatedResNet18(Computed):
    """S ResNet-18: images (S, B, channels_in, H, W) -> features (S, B, d), logits (S, B, C).

    ``features="mean-of-maps"`` is the age benchmark's: the mean of all final maps after their ReLU, one number, then
    a learnable affine map (``scale`` 1 and ``offset`` 0 at first), so d = 1. ``"pooled"`` is the few-shot
    benchmarks': the spatial mean of each final map after its ReLU, d = 8·width. A linear classifier follows.

    ``mode`` and ``channels_last`` say how the replicas are computed (see `trainables.kernels.Mode`) and the layout of
    their maps in memory, which is ``bmm``'s own. Neither changes parameters or state: weights trained in one way load
    in another, and the results agree up to floating-point reassociation. Where they are left open, the network is
    computed by its ``kernel``, and until one is set by the usual one: on a CPU looped from 8 maps on and channels last,
    else grouped and channels first.

    Every parameter and buffer has the leading dimension S, and but for the classifier torchvision's ``resnet18``
    has the same names. The head is computed in the parameters' precision under autocast too: the features are
    ranked, and 8 bits of mantissa would tie them.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        generators: Sequence[torch.Generator],
        *,
        features: Features = "pooled",
        channels_in: int = 3,
        mode: Mode = "auto",
        channels_last: bool | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
        self.mode = mode
        self.width = width
        self.channels_last = channels_last
        self.replicas = len(generators)
        self.trunk = _Trunk(width, channels_in, generators)
        self.scale: nn.Parameter | None = None
        self.offset: nn.Parameter | None = None
        if features == "mean-of-maps":
            self.scale = nn.Parameter(torch.ones(self.replicas, 1, 1))
            self.offset = nn.Parameter(torch.zeros(self.replicas, 1, 1))
        self.fc = ReplicatedLinear(8 * width if features == "pooled" else 1, classes, generators)

    def kernels(self, device: torch.device) -> tuple[Kernel, ...]:
        """Those it may be computed by on ``device``, the usual one first: one alone where ``mode`` says which."""
        on_cpu = device.type == "cpu"
        mode = self.mode
        if mode == "auto":
            mode = "looped" if on_cpu and self.width >= LOOPED_FROM else "grouped"
        if mode == "bmm":
            return (Kernel("bmm"),)
        usual = Kernel(mode, on_cpu if self.channels_last is None else self.channels_last)
        if self.mode != "auto":
            return (usual,)
        layouts = (False, True) if self.channels_last is None else (self.channels_last,)
        others = [Kernel(mode, layout) for mode in ("grouped", "looped") for layout in layouts]
        if not self.channels_last:
            others.append(Kernel("bmm"))
        return (usual, *(kernel for kernel in others if kernel != usual))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        kernel = self.kernel or self.kernels(images.device)[0]
        computed = {"grouped": self._grouped, "looped": self._looped, "bmm": self._multiplied}
        maps = computed[kernel.mode](images, kernel.channels_last)
        with torch.autocast(images.device.type, enabled=False):
            # (S, B, maps): the spatial mean in the parameters' precision
            pooled = maps.to(self.fc.weight.dtype).flatten(3).mean(3)
            if self.scale is not None and self.offset is not None:
                pooled = self.scale * pooled.mean(2, keepdim=True) + self.offset
            return pooled, self.fc(pooled)

    def replica_dims(self, name: str) -> int:
        return 1 if name == "fc.bias" else 0 if name in ("scale", "offset") else self.get_parameter(name).dim() - 1

    def _grouped(self, images: Tensor, channels_last: bool) -> Tensor:
        """Final maps (S, B, 8·width, h, w) of all replicas as one network."""
        x = images.transpose(0, 1).flatten(1, 2)
        maps = torch.unflatten(self.trunk(_laid_out(x, channels_last)), 1, (self.replicas, -1))
        return maps.transpose(0, 1)

    def _looped(self, images: Tensor, channels_last: bool) -> Tensor:
        """The same, one replica at a time: a trunk of one replica is a plain ResNet."""
        # split once per tensor: its backward is one concatenation, where slicing would add S sparse gradients
        parameters = {name: torch.split(p, 1) for name, p in self.trunk.named_parameters()}
        buffers = {name: torch.split(b, 1) for name, b in self.trunk.named_buffers()}
        maps = []
        for s, x in enumerate(images):
            own = {name: parts[s] for name, parts in (parameters | buffers).items()}
            maps.append(functional_call(self.trunk, own, (_laid_out(x, channels_last),)))
        return torch.stack(maps)

    def _multiplied(self, images: Tensor, channels_last: bool) -> Tensor:
        """The same of all replicas at once, with images after channels, see `trainables.patches`."""
        maps: Tensor = self.trunk(images.transpose(1, 2).contiguous())
        return maps.transpose(1, 2)


def _laid_out(x: Tensor, channels_last: bool) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


class _Trunk(nn.Module):
    """Images (B, S·channels, H, W) to final maps (B, S·8·width, H/8, W/8), after their ReLU; or with (S, C, B, …)."""

    def __init__(self, width: int, channels_in: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.conv1 = ReplicatedConv2d(channels_in, width, 3, 1, generators)
        self.bn1 = ReplicatedBatchNorm2d(len(generators), width)

        def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                ReplicatedBasicBlock(inputs, outputs, stride, generators),
                ReplicatedBasicBlock(outputs, outputs, 1, generators),
            )

        self.layer1 = layer(width, width, 1)
        self.layer2 = layer(width, 2 * width, 2)
        self.layer3 = layer(2 * width, 4 * width, 2)
        self.layer4 = layer(4 * width, 8 * width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.bn1(self.conv1(x)))
        maps: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return maps
