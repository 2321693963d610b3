"""Networks of torchvision as backbones, and weights from a file, against torchvision's own networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from trainables import backbones, vision
from trainables.benchmarks import Data, DataError
from trainables.replicas import streams
from trainables.resnet import ReplicatedResNet18

LABELS = torch.tensor([0, 1, 2])
DATA = Data("none", "simulated", "", torch.zeros(3, 3, 32, 32, dtype=torch.uint8), LABELS, LABELS, ("a", "b", "c"))
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def original(name: str, classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return torchvision.models.get_model(name, weights=None, num_classes=classes).eval()


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5"])
def test_a_network_of_torchvision_is_that_of_torchvision(name: str, tmp_path: Path) -> None:
    """Features are what its classifier is given, and with its own classifier come its own logits."""
    reference = original(name, 3)
    network = backbones.looped(vision.factory(name, 32), DATA, streams((0,), "init")).eval()
    vision.load_weights(network, saved(tmp_path / "w.pt", reference.state_dict()), 3)
    seen: list[Tensor] = []
    head = [module for module in reference.modules() if isinstance(module, nn.Linear)][-1]
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        expected = reference(IMAGES)
        features, _ = network(IMAGES.unsqueeze(0))
        network.replicas[0].classifier.load_state_dict(head.state_dict())
        _, logits = network(IMAGES.unsqueeze(0))
    torch.testing.assert_close(features[0], seen[0])
    torch.testing.assert_close(logits[0], expected)


#: one of each of torchvision's modules
FAMILIES = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t"),
    *("mnasnet0_5", "mobilenet_v2", "swin_t", "swin_v2_t", "vgg11", "vit_b_16"),
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_features_and_logits(name: str) -> None:
    """On a device without memory, in training, where some of torchvision's give more than one output."""
    with torch.device("meta"):
        # a vision transformer is built for one size
        size = 96 if name == "vit_b_16" else 224
        features, logits = vision.Network(name, size, DATA)(torch.empty(2, 3, size, size))
    assert features.dim() == 2 and logits.shape == (2, 3)


def test_the_last_layer_is_drawn_by_each_seed_whatever_the_file(tmp_path: Path) -> None:
    reference = original("resnet18", 1000)
    path = saved(tmp_path / "w.pt", {"state_dict": {f"module.{n}": v for n, v in reference.state_dict().items()}})
    generators = streams((0, 1), "init")
    network = backbones.looped(vision.factory("resnet18", 32), DATA, generators)
    before = [each.classifier.weight.clone() for each in network.replicas]
    vision.load_weights(network, path, 3)
    for each, drawn in zip(network.replicas, before, strict=True):
        assert torch.equal(each.classifier.weight, drawn)
        assert torch.equal(each.body.layer4[1].conv2.weight, reference.layer4[1].conv2.weight)
    assert not torch.equal(*before)


def test_the_resnet_of_the_project_takes_a_resnet18_with_its_stem(tmp_path: Path) -> None:
    """torchvision's ResNet-18 with a 3×3 stem and no max-pool, as is usual for small images."""
    reference = original("resnet18", 3)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    network = ReplicatedResNet18(64, 3, streams((0, 1), "init")).eval()
    vision.load_weights(network, saved(tmp_path / "w.pt", reference.state_dict()), 3)
    reference.fc = nn.Identity()
    with torch.no_grad():
        features, _ = network(IMAGES.expand(2, -1, -1, -1, -1))
        expected = reference(IMAGES)
    for each in features:
        torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)


class Own(nn.Module):
    def __init__(self, data: Data) -> None:
        super().__init__()
        self.body = nn.Linear(3 * 32 * 32, 4)
        self.head = nn.Linear(4, data.classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (features := self.body(x.flatten(1))), self.head(features)


def test_a_network_of_ones_own_takes_weights_by_its_own_names(tmp_path: Path) -> None:
    trained = Own(DATA)
    network = backbones.looped(vision.factory(f"{__name__}:Own", 32), DATA, streams((0,), "init"))
    vision.load_weights(network, saved(tmp_path / "w.pt", trained.state_dict()), 3)
    assert torch.equal(network.replicas[0].body.weight, trained.body.weight)


def wrong_files(folder: Path) -> Iterator[tuple[Path, str]]:
    state = original("resnet18", 3).state_dict()
    yield folder / "absent.pt", "absent.pt is not there; weights must be a file"
    (folder / "text.pt").write_text("none", encoding="utf-8")
    yield folder / "text.pt", "text.pt is no file of weights"
    yield saved(folder / "list.pt", [1, 2]), "list.pt holds no state dict"
    yield saved(folder / "module.pt", original("resnet18", 3)), "module.pt is no file of weights"
    yield (
        saved(folder / "other.pt", original("shufflenet_v2_x0_5", 3).state_dict()),
        "has no weights 'conv1.weight', which the network",
    )
    yield saved(folder / "stem.pt", state), r"'conv1.weight' is of shape \(64, 3, 7, 7\), and \(64, 3, 3, 3\) in the"


def test_a_file_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    network = ReplicatedResNet18(64, 3, streams((0,), "init"))
    for path, expected in wrong_files(tmp_path):
        with pytest.raises(DataError, match=expected) as error:
            vision.load_weights(network, path, 3)
        assert path.name in str(error.value) and "\n" not in str(error.value)


def test_a_network_without_a_linear_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="classifier of squeezenet1_1 is no linear layer"):
        vision.Network("squeezenet1_1", 32, DATA)
