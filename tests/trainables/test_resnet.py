"""The replicated ResNet-18 against torchvision's, against itself in the other mode, and replica by replica."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from trainables.kernels import MODES, Mode
from trainables.replicas import streams
from trainables.resnet import Features, ReplicatedBatchNorm2d, ReplicatedResNet18


def network(seeds: tuple[int, ...], width: int = 4, mode: Mode = "looped", **options: object) -> ReplicatedResNet18:
    return ReplicatedResNet18(width, 3, streams(seeds, "init"), mode=mode, **options).double()  # type: ignore[arg-type]


def reference(net: ReplicatedResNet18, replica: int) -> nn.Module:
    """torchvision's ResNet-18 with the paper's stem and one replica's weights."""
    single = resnet18(num_classes=3)
    single.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    single.maxpool = nn.Identity()
    weights = {name: value[replica] for name, value in net.trunk.state_dict().items()}
    weights |= {"fc.weight": net.fc.weight[replica].T, "fc.bias": net.fc.bias[replica, 0]}
    missing, unexpected = single.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return single.double()


def test_the_paper_s_network_has_700_182_parameters() -> None:
    net = ReplicatedResNet18(16, 2, streams(range(3), "init"), features="mean-of-maps")
    assert sum(p[0].numel() for p in net.parameters()) == 700_182
    assert all(len(p) == 3 for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["grouped", "looped", "bmm"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_torchvision(mode: Mode, channels_last: bool) -> None:
    net = network((0, 1), width=64, mode=mode, channels_last=channels_last)
    images = torch.randn(2, 4, 3, 16, 16, dtype=torch.float64)
    for replica in range(2):
        single = reference(net, replica)
        statistics = {name: value.clone() for name, value in net.state_dict().items()}
        for training in (True, False):
            expected = single.train(training)(images[replica])
            _, logits = net.train(training)(images)
            torch.testing.assert_close(logits[replica], expected, rtol=1e-9, atol=1e-9)
        for name, value in single.state_dict().items():
            if "running" in name:
                torch.testing.assert_close(net.trunk.state_dict()[name][replica], value, rtol=1e-9, atol=1e-12)
        net.load_state_dict(statistics)


def test_one_number_is_the_affine_mean_of_all_final_maps() -> None:
    net = network((0, 1), width=64, features="mean-of-maps")
    assert net.scale is not None
    assert net.offset is not None
    with torch.no_grad():
        net.scale.copy_(torch.tensor([2.0, -3.0]).view(2, 1, 1))
        net.offset.copy_(torch.tensor([0.5, 7.0]).view(2, 1, 1))
    images = torch.randn(2, 5, 3, 16, 16, dtype=torch.float64)
    features, logits = net.eval()(images)
    for replica, (scale, offset) in enumerate([(2.0, 0.5), (-3.0, 7.0)]):
        single = resnet18()
        single.conv1, single.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        weights = {name: value[replica] for name, value in net.trunk.state_dict().items()}
        single.load_state_dict(weights, strict=False)
        maps = nn.Sequential(*list(single.double().eval().children())[:-2])(images[replica])
        expected = scale * maps.mean((1, 2, 3)) + offset
        torch.testing.assert_close(features[replica, :, 0], expected, rtol=1e-9, atol=1e-9)
        by_hand = expected[:, None] * net.fc.weight[replica] + net.fc.bias[replica]
        torch.testing.assert_close(logits[replica], by_hand, rtol=1e-9, atol=1e-9)


def trained(net: ReplicatedResNet18, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """State after four steps of Adam on batches (4, S, B, …)."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for batch, classes in zip(images, targets, strict=True):
        _, logits = net.train()(batch)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="sum").backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("features", ["mean-of-maps", "pooled"])
def test_trajectories_agree_between_modes_and_with_a_replica_alone(features: Features) -> None:
    seeds = (3, 1, 4)
    images = torch.randn(4, 3, 6, 3, 16, 16, dtype=torch.float64)
    targets = torch.randint(0, 3, (4, 3, 6))
    grouped = trained(network(seeds, mode="grouped", features=features), images, targets)
    looped = trained(network(seeds, mode="looped", features=features), images, targets)
    multiplied = trained(network(seeds, mode="bmm", features=features), images, targets)
    for name, value in looped.items():
        for other in (grouped, multiplied):
            text = f"{name}: {{}}".format
            torch.testing.assert_close(other[name], value, rtol=1e-7, atol=1e-9, msg=text)
    for s, seed in enumerate(seeds):
        alone = trained(network((seed,), features=features), images[:, s : s + 1], targets[:, s : s + 1])
        for name, value in alone.items():
            torch.testing.assert_close(value[0], looped[name][s], rtol=1e-7, atol=1e-9)


def test_weights_of_one_mode_load_in_the_other() -> None:
    images = torch.randn(2, 3, 3, 16, 16, dtype=torch.float64)
    grouped = network((0, 1), mode="grouped")
    grouped.train()(images)
    looped = network((5, 6), mode="looped")
    looped.load_state_dict(grouped.state_dict())
    for ours, theirs in zip(looped.eval()(images), grouped.eval()(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", ["one network", "images after channels"])
def test_batch_norm_statistics_are_each_replica_s_own(layout: str) -> None:
    ours = ReplicatedBatchNorm2d(2, 3)
    references = [nn.BatchNorm2d(3), nn.BatchNorm2d(3)]
    for step in range(3):
        parts = [torch.randn(4, 3, 5, 5) + step, 10 * torch.randn(4, 3, 5, 5) - 7]
        if layout == "one network":
            outputs = ours(torch.cat(parts, 1)).chunk(2, 1)
        else:
            outputs = tuple(ours(torch.stack(parts).transpose(1, 2).contiguous()).transpose(1, 2))
        for part, reference_norm, output in zip(parts, references, outputs, strict=True):
            torch.testing.assert_close(output, reference_norm(part), rtol=1e-4, atol=1e-5)
    for s, reference_norm in enumerate(references):
        torch.testing.assert_close(ours.running_mean[s], reference_norm.running_mean)
        torch.testing.assert_close(ours.running_var[s], reference_norm.running_var)


@pytest.mark.parametrize("mode", ["grouped", "looped", "bmm"])
def test_a_neighbour_s_images_change_nothing(mode: Mode) -> None:
    net = network((0, 1), mode=mode, features="mean-of-maps")
    images = torch.randn(2, 4, 3, 16, 16, dtype=torch.float64)
    first, _ = net(images)
    images[1] = torch.randn(4, 3, 16, 16) ** 3
    second, _ = net(images)
    torch.testing.assert_close(first[0], second[0], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(first[1], second[1])


@pytest.mark.parametrize("mode", ["grouped", "looped", "bmm"])
def test_bf16_stays_within_two_per_cent_of_float32(mode: Mode) -> None:
    net = ReplicatedResNet18(16, 2, streams(range(2), "init"), features="mean-of-maps", mode=mode)
    images = torch.randn(2, 16, 3, 32, 32)
    gradients, outputs = [], []
    for mixed in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            features, logits = net.train()(images)
        assert features.dtype == logits.dtype == torch.float32
        logits.logsumexp(-1).sum().backward()
        outputs.append(features.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    exact, rounded = outputs
    assert ((rounded - exact).abs() / exact.abs()).max() < 0.02
    # the head is not rounded: bf16's 8 bits would leave a few values for many images
    assert len(rounded.unique()) == rounded.numel()
    assert nn.functional.cosine_similarity(gradients[0], gradients[1], 0) > 0.98


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(ValueError, match="unknown mode 'fused'; known: auto, grouped, looped, bmm"):
        network((0,), mode="fused")  # type: ignore[arg-type]
    assert MODES == ("auto", "grouped", "looped", "bmm")


def test_weight_decay_counts_one_replica_s_dimensions() -> None:
    net = network((0, 1), features="mean-of-maps")
    dims = {name: net.replica_dims(name) for name, _ in net.named_parameters()}
    single = dict(resnet18().named_parameters())
    for name, count in dims.items():
        expected = 0 if name in ("scale", "offset") else single[name.removeprefix("trunk.")].dim()
        assert count == expected, name
