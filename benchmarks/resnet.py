"""Ten-seed ResNet-18 training steps: replicas grouped or one after another, both memory layouts, by width.

python -m benchmarks.resnet [--device cuda] [--bf16] [--size 32] [--batch 64] [--replicas 10] [--widths 4 8 16]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product

import torch

from trainables.kernels import Mode
from trainables.replicas import streams
from trainables.resnet import ReplicatedResNet18

#: the backward pass takes twice the forward one's operations
FORWARD_AND_BACKWARD = 3


def multiply_adds(network: ReplicatedResNet18, size: int) -> int:
    """Of one image through one replica's convolutions, forward."""
    total, edges = 0, {"layer2": 2, "layer3": 4, "layer4": 8}
    for name, weight in network.trunk.named_parameters():
        if weight.dim() == 5:
            edge = size // edges.get(name.split(".")[0], 1)
            total += weight[0].numel() * edge**2
    return total


def seconds(step: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Fastest of ``repeats`` steps; on a CPU the process's own time, so that a busy machine does not count."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    best = float("inf")
    for _ in range(repeats):
        started = clock()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        # processor time is comparable between the modes on one thread alone
        torch.set_num_threads(1)
    images = torch.randn(given.replicas, given.batch, 3, given.size, given.size, device=device)
    print(f"{given.replicas} replicas × batch {given.batch}, {given.size} pixels, {device.type}, bf16 {given.bf16}")
    print("width  mode     layout          ms per step  images/s  GFLOP/s")
    modes: tuple[Mode, ...] = ("looped", "grouped")
    for width, mode, channels_last in product(given.widths, modes, (False, True)):
        network = ReplicatedResNet18(
            width,
            2,
            streams(range(given.replicas), "init"),
            features="mean-of-maps",
            mode=mode,
            channels_last=channels_last,
        ).to(device)

        def step(network: ReplicatedResNet18 = network) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=given.bf16):
                _, logits = network(images)
            logits.float().logsumexp(-1).sum().backward()

        step()
        taken = seconds(step, device, given.repeats)
        rate = given.replicas * given.batch / taken
        flops = 2 * FORWARD_AND_BACKWARD * multiply_adds(network, given.size) * rate
        layout = "channels last" if channels_last else "channels first"
        print(f"{width:5}  {mode:7}  {layout:14}  {taken * 1e3:11.1f}  {rate:8.0f}  {flops / 1e9:7.1f}", flush=True)


if __name__ == "__main__":
    main()
