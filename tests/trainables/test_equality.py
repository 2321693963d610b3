"""Every criterion against its formula in plain numpy: the table of `benchmarks.equality`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from benchmarks.equality import ROWS, Given, compare
from trainables import criteria


def test_the_table_has_every_criterion() -> None:
    assert {name for name, _, _ in ROWS} == set(criteria.names())


@pytest.mark.parametrize(("name", "values", "formula"), ROWS)
def test_loss_and_gradient_are_those_of_the_formula(
    name: str, values: Mapping[str, float], formula: Callable[[Given], float]
) -> None:
    of_loss, of_gradient = compare(name, values, formula)
    assert of_loss < 1e-8
    assert of_gradient < 1e-5
