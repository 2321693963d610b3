"""The notebook of the examples and the code of docs/python.md, run as they stand, cell by cell."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch

from analysis.runs import load
from study import api
from study.errors import UserError
from study.home import Home
from trainables.benchmarks import DataError
from trainables.training import Training
from trainables.trial import Trial

ROOT = Path(__file__).resolve().parents[1]


def run_cell(code: str, names: dict[str, Any]) -> Any:
    """Run the code as a cell; the value of its last expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.fixture(scope="module")
def notebook(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """The values of the notebook's cells and its names, run in a folder of its own."""
    cells = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    before = Path.cwd()
    backend = mpl.get_backend()
    os.chdir(tmp_path_factory.mktemp("notebook"))
    try:
        values = [run_cell("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]
        assert mpl.get_backend() == backend
        yield values, names
    finally:
        os.chdir(before)


def test_the_notebook_runs(notebook: tuple[list[Any], dict[str, Any]]) -> None:
    (_, seeds, outcome, trials, means, drawn, (shape, accuracy)), names = notebook
    assert seeds == (0, 1) and (outcome.done, outcome.missing) == (4, 0)
    assert list(trials["state"]) == ["done"] * 4 and list(trials["found"]) == [(0, 1)] * 4
    assert len(means) == 4 and (means["mean"] > 0.1).all()
    assert "<img src" in drawn._repr_html_() and "epoch" not in drawn.html.partition("<img")[0]
    assert shape == (1797, 32) and accuracy > 0.3
    stored = load(Home.find().tracking_uri(names["study"].spec), "digits")
    assert len(stored) == len(names["frame"])


def test_the_network_is_the_one_that_was_trained(notebook: tuple[list[Any], dict[str, Any]]) -> None:
    """Its seed trained alone gives the same features, up to reassociation, and the kept ones are among them."""
    study, network = notebook[1]["study"], notebook[1]["network"]
    options = study.spec.benchmark.options
    alone = Training(Trial("table", "ce", (1,), options=options, training=dict(study.spec.training)))
    list(alone.run())
    with torch.no_grad():
        expected, logits = alone.answers(alone.data.inputs)
    np.testing.assert_allclose(network.features(alone.data.inputs), expected[0], atol=1e-2)
    shares = network.probabilities(network.inputs)
    np.testing.assert_allclose(np.stack([shares["even"], shares["odd"]], 1), logits[0].softmax(-1), atol=1e-2)
    kept = study.recorded().arrays(0, 1)["features"]
    heldout = alone.parts["heldout"][0]
    np.testing.assert_allclose(network.features(network.inputs[heldout]), kept, atol=1e-2)


def test_the_document_runs(notebook: tuple[list[Any], dict[str, Any]]) -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.S):
        run_cell(block, names)
    assert names["outcome"].done == 4 and names["status"].count("done") == 4
    assert names["features"].shape == (10, 32) and len(names["frames"]) > 0
    assert ((names["even"] >= 0) & (names["even"] <= 1)).all()


def test_what_is_not_there_is_one_sentence(notebook: tuple[list[Any], dict[str, Any]]) -> None:
    study, network = notebook[1]["study"], notebook[1]["network"]
    with pytest.raises(UserError, match="no seed 7 of a trial 0"):
        study.network(0, 7)
    with pytest.raises(UserError, match="did you mean 'digits'"):
        api.reopen("digit")
    with pytest.raises(DataError, match=r"inputs are \(10, 3\) of torch.float64; the benchmark stores \(1797, 64\)"):
        network.features(np.zeros((10, 3)))
