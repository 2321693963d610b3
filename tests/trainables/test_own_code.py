"""Which code is a user's own: what tells one content from another, and the frames of an error in it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from trainables.benchmarks import Data
from trainables.own_code import data_digest, digests, own_place, own_traceback


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """``mine_of_tests/{nets,losses,shared/layers}.py``, of which ``losses`` stands alone."""
    folder = tmp_path / "mine_of_tests"
    (folder / "shared").mkdir(parents=True)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "shared" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "shared" / "layers.py").write_text("import math\nSIZE = 3\n", encoding="utf-8")
    (folder / "nets.py").write_text(
        "import torch\n\ndef network(data):\n    from .shared import layers\n    return layers.SIZE\n", encoding="utf-8"
    )
    (folder / "losses.py").write_text(
        "import json\nfrom torch import nn\n\n\ndef loss(logits):\n    text = '{'\n    return json.loads(text)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine_of_tests"]:
        del sys.modules[name]


def test_what_is_imported_counts_and_nothing_else(package: Path) -> None:
    names = {"mine_of_tests", "mine_of_tests.nets", "mine_of_tests.shared", "mine_of_tests.shared.layers"}
    before = digests("mine_of_tests.nets:network")
    assert before.keys() == names
    assert digests("mine_of_tests.losses:loss").keys() == {"mine_of_tests", "mine_of_tests.losses"}
    # as a checkout on another system has it
    layers = package / "shared" / "layers.py"
    layers.write_bytes(layers.read_bytes().replace(b"\n", b"\r\n"))
    assert digests("mine_of_tests.nets:network") == before
    layers.write_text("import math\nSIZE = 4\n", encoding="utf-8")
    after = digests("mine_of_tests.nets:network")
    assert {name for name in names if before[name] != after[name]} == {"mine_of_tests.shared.layers"}
    # loaded or not
    importlib.import_module("mine_of_tests.nets")
    assert digests("mine_of_tests.nets:network") == after
    assert digests("torchvision.models:resnet18") == digests("trainables.resnet:ResNet") == {}
    assert digests("nowhere_of_tests:x") == digests("C:x") == {}


def test_frames_of_an_error_begin_and_end_in_own_code(package: Path) -> None:
    losses = importlib.import_module("mine_of_tests.losses")
    with pytest.raises(ValueError, match="Expecting") as raised:
        losses.loss(torch.zeros(1))
    text = own_traceback(raised.value)
    # the test's own frame comes first, and that of json, which it called, is there
    assert text.splitlines()[0].endswith("in test_frames_of_an_error_begin_and_end_in_own_code")
    assert "json.loads(text)" in text and text.splitlines()[-1].startswith("json.decoder.JSONDecodeError")
    assert own_place(raised.value) == "losses.py, line 7"
    assert own_traceback(ValueError("of nobody's")) == own_place(ValueError("of nobody's")) == ""


def test_data_of_ones_own_is_told_by_its_values_whatever_it_calls_itself() -> None:
    def data(shift: float = 0.0, fingerprint: str = "mine") -> Data:
        inputs = torch.arange(6.0).reshape(3, 2) + shift
        return Data("d", "real", fingerprint, inputs, torch.tensor([0, 1, 0]), torch.tensor([0, 1, 2]), ("a", "b"))

    assert data_digest("mine:Mine", data()) == data_digest("mine:Mine", data())
    assert data_digest("mine:Mine", data()) != data_digest("mine:Mine", data(shift=1e-6))
    assert data_digest("mine:Mine", data()) != data_digest("mine:Mine", data(fingerprint="other"))
    assert data_digest("table", data(shift=1.0)) == "mine"
    half = data()
    half.inputs = half.inputs.to(torch.bfloat16)
    assert data_digest("mine:Mine", half) != data_digest("mine:Mine", data())
