"""Studies made in memory, where what is true is known: labels, searched criteria, associations, preconditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import associations, claims, selection, sensitivity, tables, trajectories
from analysis.age import claims as age_claims
from analysis.claims import FAILS, HOLDS, NO_VERDICT, UNDECIDED, UNTESTED
from analysis.hyperspectral import claims as hyperspectral_claims
from analysis.runs import Study
from benchmarks.verdicts import GRID, PAGES, SEARCH, Trial, drawn, false_findings, made, refilled

THREE = GRID[:2] + GRID[5:6]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def two(difference: float, spread: float, seeds: int, metric: str = "mse/raw") -> Study:
    """CE and LS, whose metric is lower by ``difference``, give or take ``spread``."""
    values = 1 + 0.1 * noise(0, 2, seeds, 3)
    values[1] = values[0] - difference + spread * noise(1, seeds, 3)
    return made("hyperspectral", GRID[:2], {metric: values})


@pytest.mark.parametrize(("seeds", "outcome"), [(2, UNDECIDED), (3, UNDECIDED), (5, UNDECIDED), (6, HOLDS)])
def test_few_seeds_cannot_decide(seeds: int, outcome: str) -> None:
    verdict = claims.lower(two(0.1, 0.001, seeds), "mse/raw", "ls", "ce")
    assert verdict.outcome == outcome and verdict.exact == 2.0 ** (1 - seeds)
    assert (f"{seeds} seeds cannot decide" in verdict.numbers) == (outcome == UNDECIDED)


def test_equal_pairs_decide_by_the_exact_test_alone() -> None:
    assert claims.lower(two(0.01, 0, 2), "mse/raw", "ls", "ce").outcome == UNDECIDED
    verdict = claims.lower(two(0.01, 0, 10), "mse/raw", "ls", "ce")
    assert verdict.p == verdict.exact == 2 / 1024


def test_a_verdict_is_by_the_adjusted_p() -> None:
    study = two(0.025, 0.04, 10)
    claim = claims.Claim("lower", "", [lambda study: claims.lower(study, "mse/raw", "ls", "ce")] * 9)
    alone = claims.judge(study, [claims.Claim("lower", "", claim.tests[:1])]).iloc[0]
    assert alone["verdict"] == HOLDS and 0.05 / 9 < alone["p"] < 0.05
    family = claims.judge(study, [claim])
    assert set(family["verdict"]) == {UNDECIDED}
    assert family["adjusted p"].tolist() == pytest.approx([9 * alone["p"]] * 9)


def test_labels_tell_settings_apart() -> None:
    study = Study("made", "", None, ())  # type: ignore[arg-type]
    weights = (1.001, 1.002, 0.5, 0.5)
    trials = [(n, "fierce", {"lambda": weight, "e": 1000.0}) for n, weight in enumerate(weights)]
    assert study.labels(trials) == [
        *("FIERCE λ=1.001 e=1000", "FIERCE λ=1.002 e=1000"),
        *("FIERCE λ=0.5 e=1000 (trial 2)", "FIERCE λ=0.5 e=1000 (trial 3)"),
    ]


def test_a_table_drops_no_trial_whose_label_is_anothers() -> None:
    trials = [("fierce", {"lambda": weight, "e": 100.0}, "baseline") for weight in (1.001, 1.002, 1.002)]
    study = made("hyperspectral", trials, {"mse/raw": 1 + noise(0, 3, 4, 2)})
    assert sorted(tables.rows(study).values()) == [0, 1, 2]


def test_a_table_of_settings_tells_them_apart_and_prints_whole_numbers_whole() -> None:
    trials = [("fierce", {"lambda": weight, "e": e}, "grid") for weight in (1.001, 1.002) for e in (1000.0, 2000.0)]
    study = made("hyperspectral", trials, {"mse/raw": 1 + noise(0, 4, 4, 2)})
    table = sensitivity.points(study, "fierce", ["mse/raw"])
    assert table[["λ", "e"]].to_numpy().tolist() == [
        *(["1.001", "1000"], ["1.001", "2000"], ["1.002", "1000"], ["1.002", "2000"])
    ]
    assert table["trial"].tolist() == [0, 1, 2, 3]


def test_a_searched_criterion_gets_no_verdict() -> None:
    values = 1 + 0.01 * noise(0, len(SEARCH), 10, 2)
    values[3:] -= 0.5
    search = {"criteria": {"fierce": {}}, "objective": {"metric": "mse/raw", "direction": "minimize"}}
    study = made("hyperspectral", SEARCH, {"mse/raw": values}, {"search": search})
    verdict = claims.lower(study, "mse/raw", "fierce", "ce")
    assert verdict.outcome == NO_VERDICT and np.isnan(verdict.p)
    assert "was chosen on the data that it would be tested on" in verdict.numbers
    # CE and LS were not searched for
    assert claims.lower(study, "mse/raw", "ls", "ce").outcome == UNDECIDED


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "One seed has no standard error"), (4, "4 seeds is uncertain"), (5, "")]
)
def test_label_free_search_of_few_seeds(seeds: int, words: str) -> None:
    values = {metric: 1 + 0.01 * noise(0, len(SEARCH), seeds, 2) for metric in ("entropy/features",)}
    values["accuracy/validation"] = np.ones((len(SEARCH), seeds, 2))
    search = {"criteria": {"fierce": {}}, "objective": {"label_free": True}}
    study = made("hyperspectral", SEARCH, values, {"search": search})
    best, points = selection.search(study)["fierce"]
    assert words in selection.few_seeds(study) and bool(selection.few_seeds(study)) == bool(words)
    assert points["feasible"].all() == (best is not None) == (seeds > 1)


def drifting(seed: int, shared: float, seeds: int = 10, epochs: int = 30) -> dict[str, np.ndarray]:
    """Two metrics of CE that drift against each other, with ``shared`` of their changes in common."""
    drift, changes = np.arange(epochs), noise(seed, 3, 1, seeds, epochs)
    return {
        "entropy/features": drift + changes[0] + shared * changes[2],
        "mse/raw": 100 - drift + changes[1] - shared * changes[2],
    }


def test_what_merely_drifts_is_not_bound() -> None:
    study = made("hyperspectral", GRID[:1], drifting(0, 0))
    arguments = ("entropy/features", "mse/raw", "ce")
    printed = associations.along_training(study, *arguments)
    assert printed.outcome == NO_VERDICT and printed.numbers.startswith("−0.9")
    assert associations.by_increments(study, *arguments, sign=-1).outcome == UNDECIDED
    bound = made("hyperspectral", GRID[:1], drifting(0, 1))
    assert associations.by_increments(bound, *arguments, sign=-1).outcome == HOLDS


def test_increments_are_scipys() -> None:
    first, second = (pd.DataFrame(noise(seed, 12, 3).cumsum(0)) for seed in (0, 1))
    changes = [curves.diff().iloc[1:] for curves in (first, second)]
    own, others = (change.sub(change.mean(axis=1), axis=0) for change in changes)
    expected = [[stats.spearmanr(own[one], others[other]).statistic for other in range(3)] for one in range(3)]
    np.testing.assert_allclose(associations.increments(first, second), expected, atol=1e-12)
    # what rises by the same at every epoch does not vary
    line = pd.DataFrame({seed: [0.1, 0.2, 0.3, 0.4] for seed in range(3)})
    assert np.isnan(associations.increments(line, first.loc[:3])).all()


def test_the_pairing_of_seeds_is_counted() -> None:
    x, y = noise(0, 5), noise(1, 5)
    coefficients = [stats.spearmanr(x, y[list(order)]).statistic for order in permutations(range(5))]
    study = made("hyperspectral", GRID[:1], {"mse/raw": x.reshape(1, 5, 1), "entropy/features": y.reshape(1, 5, 1)})
    correlations, settings = associations.across_seeds(study, "mse/raw", "entropy/features")
    same, _, p = associations.same_seed(correlations)
    assert (settings, same) == (1, pytest.approx(coefficients[0]))
    assert p == np.mean(np.abs(coefficients) >= abs(coefficients[0]) - 1e-12)
    # three seeds have six pairings
    assert associations.same_seed(np.eye(3))[2] == 1 / 6
    assert associations.same_seed(np.eye(10))[2] == 1 / 10_000


def levelling(seed: int, shared: float, seeds: int = 10, epochs: int = 12) -> dict[str, np.ndarray]:
    """Two metrics of CE that level off, one from above, with ``shared`` of a seed's changes in common."""
    course, changes = np.exp(-np.arange(epochs) / 2), 0.02 * noise(seed, 3, 1, seeds, epochs)
    return {
        "entropy/features": -course + changes[0] + shared * changes[2],
        "mse/raw": course + changes[1] - shared * changes[2],
    }


def test_a_course_that_all_seeds_share_binds_nothing() -> None:
    """Both fall fast, then slowly: their changes correlate, whatever they have to do with each other."""
    arguments, draws = ("entropy/features", "mse/raw", "ce"), 60
    made_of = [made("hyperspectral", GRID[:1], levelling(seed, 0)) for seed in range(draws)]
    raw = [trajectories.by_criterion(made_of[0], metric)["ce"].diff().iloc[1:] for metric in arguments[:2]]
    assert trajectories.rank_correlations(*raw).mean() < -0.4
    decided = [associations.by_increments(study, *arguments, sign=-1).outcome != UNDECIDED for study in made_of]
    assert sum(decided) <= stats.binom.ppf(0.999, draws, 0.05)
    bound = made("hyperspectral", GRID[:1], levelling(0, 1))
    assert associations.by_increments(bound, *arguments, sign=-1).outcome == HOLDS


def following(seed: int, shared: float, seeds: int, settings: int = 7) -> Study:
    """Two metrics that follow the setting each for itself, with ``shared`` of what a seed brings in common."""
    level, own = np.arange(settings)[:, None, None], 0.1 * noise(seed, 3, settings, seeds, 2)
    values = {
        "entropy/features": level + own[0] + shared * own[2],
        "mse/raw": 10 - level + own[1] - shared * own[2],
    }
    return made("hyperspectral", GRID[:settings], values)


def test_settings_that_both_follow_bind_nothing() -> None:
    arguments, draws = ("entropy/features", "mse/raw"), 60
    printed = associations.over_settings(following(0, 0, 10), *arguments)
    assert printed.outcome == NO_VERDICT and printed.numbers.startswith("−1.000 over 7 settings")
    outcomes = [associations.by_seeds(following(seed, 0, 10), *arguments, sign=-1).outcome for seed in range(draws)]
    assert sum(outcome != UNDECIDED for outcome in outcomes) <= stats.binom.ppf(0.999, draws, 0.05)


@pytest.mark.parametrize(("seeds", "outcome"), [(3, UNDECIDED), (4, HOLDS), (10, HOLDS)])
def test_seeds_that_bring_both(seeds: int, outcome: str) -> None:
    verdict = associations.by_seeds(following(1, 4, seeds), "entropy/features", "mse/raw", sign=-1)
    assert verdict.outcome == outcome and ("cannot decide" in verdict.numbers) == (seeds == 3)
    assert associations.by_seeds(following(1, 4, 10), "entropy/features", "mse/raw", sign=1).outcome == FAILS


def test_a_margin_is_as_uncertain_as_what_it_is_a_share_of() -> None:
    """The mean is a tenth above the second's, and the seeds differ far more than the two do: no tenth is held."""
    held, draws = 0, 400
    for seed in range(draws):
        second = pd.Series(1 + 0.2 * noise(seed, 10))
        first = 1.1 + second - 1 + 0.01 * noise(seed + draws, 10)
        held += claims.decide_within_share(first, second, 0.1, 10).outcome == HOLDS
    # where the margin was a tenth of the mean of the same seeds, 20% of 1,000
    assert held <= stats.binom.ppf(0.999, draws, 0.05)
    near = claims.decide_within_share(second + 0.01, second, 0.1, 10)
    far = claims.decide_within_share(2 * second, second, 0.1, 10)
    assert (near.outcome, far.outcome) == (HOLDS, FAILS)


def ages(fierce: float, rise: float, class_mean: float = 300) -> Study:
    """CE and LS fall to 200 and rise by ``rise``; FIERCE ends at ``fierce`` and stays there."""
    epochs, jitter = np.arange(6), noise(0, 3, 10, 6)
    turned = 200 + 20 * np.maximum(2 - epochs, 0) + rise / 3 * np.maximum(epochs - 2, 0)
    errors = np.stack([turned + jitter[0], turned + jitter[1], fierce + jitter[2]])
    metrics: Mapping[str, np.ndarray] = {
        **dict.fromkeys(("mse/transport", "mse/transport-heldout"), errors),
        **dict.fromkeys(("mse/class-mean", "mse/class-mean-heldout"), class_mean + noise(1, 3, 10, 6)),
        "accuracy/coarse": 0.8 + 0.001 * noise(2, 3, 10, 6),
    }
    return made(
        "age",
        [(name, {**given, "sigma": 0.1} if name == "ls" else given, role) for name, given, role in THREE],
        metrics,
    )


def test_a_network_that_never_trained_does_not_stay_low() -> None:
    metric = "mse/transport-heldout"
    assert age_claims.stays_low(ages(fierce=480, rise=0), metric).outcome == UNDECIDED
    assert age_claims.close_to_early_ce(ages(fierce=480, rise=0), metric).outcome == UNDECIDED
    assert age_claims.stays_low(ages(fierce=150, rise=0), metric).outcome == HOLDS


def test_not_to_outperform_is_one_sided() -> None:
    metric = "mse/transport"
    # far better than CE's best; about the same; far worse, though trained
    outcomes = [age_claims.close_to_early_ce(ages(error, rise=0), metric).outcome for error in (150, 195, 260)]
    assert outcomes == [FAILS, HOLDS, HOLDS]


def test_accuracy_is_kept_only_where_the_error_rises() -> None:
    assert age_claims.keeps_accuracy(ages(150, rise=0), "ce").outcome == UNTESTED
    assert age_claims.keeps_accuracy(ages(150, rise=60), "ce").outcome == HOLDS


def test_the_last_epoch_less_the_best_of_noise_is_nothing() -> None:
    flat = made("hyperspectral", GRID[:1], {"mse/raw": 1 + noise(0, 1, 40, 30)})
    gap = trajectories.gap(trajectories.by_criterion(flat, "mse/raw")["ce"])
    assert abs(gap.mean()) < 3 * stats.sem(gap)
    table = trajectories._turn(flat, ["mse/raw"])
    assert "last less best, chosen on the other seeds" in table and "last less best" not in table


def test_the_best_weights_are_chosen_on_other_seeds() -> None:
    held, draws, names = 0, 300, ("mse/raw", "mse/transfer-least-squares")
    study = made("hyperspectral", GRID[:7], {name: noise(0, 7, 10, 2) for name in names})
    for seed in range(draws):
        values = {name: 1 + 0.1 * noise(2 * seed + i, 7, 10, 2) for i, name in enumerate(names)}
        held += hyperspectral_claims.other_weight(refilled(study, values), names[1]).outcome == HOLDS
    # 31 where the same seeds chose both and were tested on
    assert held <= stats.binom.ppf(0.99, draws, 0.05)


def test_a_best_weight_that_noise_chose_is_no_other() -> None:
    """Both are best at λ = 1; raw MSE hardly tells it from .3, at which the transfer MSE is far higher."""
    held, draws = 0, 60
    for seed in range(draws):
        # CE, LS, confidence penalty, then λ = .1, .3, 1, 4
        raw = np.array([2, 2, 2, 2, 1.0001, 1, 2])[:, None, None] + 0.1 * noise(2 * seed, 7, 10, 2)
        transfer = np.array([3, 3, 3, 3, 2, 1, 3])[:, None, None] + 0.1 * noise(2 * seed + 1, 7, 10, 2)
        study = made("hyperspectral", GRID[:7], {"mse/raw": raw, "mse/transfer-least-squares": transfer})
        held += hyperspectral_claims.other_weight(study, "mse/transfer-least-squares").outcome == HOLDS
    assert held <= stats.binom.ppf(0.999, draws, 0.05)


def weighted(seed: int, errors: Sequence[float]) -> Study:
    """CE, then λ = .1, .3, 1, 4 with these errors, of which the last two cost accuracy."""
    trials = GRID[:1] + GRID[3:7]
    error = np.array([3, *errors])[:, None, None] + 0.05 * noise(2 * seed, 5, 10, 2)
    accuracy = np.array([0.8, 0.8, 0.8, 0.74, 0.7])[:, None, None] + 0.001 * noise(2 * seed + 1, 5, 10, 2)
    return made("age", trials, {"mse/transport": error, "accuracy/coarse": accuracy})


def test_the_limit_of_accuracy_needs_a_best_weight_that_is_sure() -> None:
    """λ = 1 is best, which costs accuracy; noise takes .3 for it half the time, which costs none."""
    draws = 60
    held = sum(
        age_claims.limit_of_accuracy(weighted(seed, (2, 1.0001, 1, 2)), "mse/transport").outcome == HOLDS
        for seed in range(draws)
    )
    assert held <= stats.binom.ppf(0.999, draws, 0.05)
    assert age_claims.limit_of_accuracy(weighted(0, (2, 1, 1.5, 2)), "mse/transport").outcome == HOLDS


@pytest.mark.slow
def test_few_null_studies_have_a_claim_that_holds() -> None:
    studies = 20
    for benchmark, kind in (("cub", "grid"), ("cifar10", "grid"), ("cifar10", "search"), ("age", "turned")):
        findings = false_findings(benchmark, kind, range(studies), seeds=10, noise="normal")
        assert findings.holds <= stats.binom.ppf(0.999, studies, 0.05)


@pytest.mark.parametrize("trials", [GRID, SEARCH], ids=["grid", "search"])
@pytest.mark.parametrize("page", PAGES)
def test_a_study_with_other_values_is_judged_as_one_that_is_made_of_them(page: str, trials: Sequence[Trial]) -> None:
    searched = {"search": {"criteria": {"fierce": {}}, "objective": {"metric": "mse/raw", "direction": "minimize"}}}
    settings = searched if trials is SEARCH else {}
    random = np.random.default_rng(0)
    first, second = (drawn(random, page, trials, 6) for _ in range(2))
    study = made(page, trials, first, settings)
    before = claims.judge(study, PAGES[page])
    judged = claims.judge(refilled(study, second), PAGES[page])
    pd.testing.assert_frame_equal(judged, claims.judge(made(page, trials, second, settings), PAGES[page]))
    assert not judged["numbers"].equals(before["numbers"])
