"""What is recommended: by hand on made studies, by counting on many that hold nothing but noise, and on trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from scipy import stats

from analysis import glossary, recommendation, rivals, schema, selection, statistics, summary
from analysis.declarations import Criterion, Hyperparameter, Metric
from analysis.output import Figure, Lead
from analysis.runs import Study
from benchmarks.recommendation import ACCURACY, CE, MARGIN, METRIC, TWIN, drawn, of_trainings, study
from tests.analysis.test_confirmation import write

LS = ("ls", {"sigma": 0.1}, "baseline")
FIERCE = tuple(("fierce", {"lambda": weight, "e": 100.0}, "grid") for weight in (0.1, 0.3, 1.0))


def noise(seed: int, *shape: int) -> np.ndarray:
    return 0.01 * np.random.default_rng(seed).normal(size=shape)


def fixed(validation: Sequence[float], heldout: Sequence[float], seeds: int = 10, **more: Sequence[float]) -> Study:
    """CE, LS and FIERCE at three λ, with these means on validation and on held-out samples."""
    means = {TWIN: validation, METRIC: heldout, ACCURACY: (0.8,) * 5, **more}
    values = {
        name: np.array(each)[:, None] + noise(place, len(each), seeds)
        for place, (name, each) in enumerate(means.items())
    }
    return study((CE, LS, *FIERCE), values)


def found(study: Study) -> recommendation.Recommendation:
    answer = recommendation.find(study)
    assert answer is not None
    return answer


def test_the_best_on_validation_samples_is_tested_on_held_out_ones() -> None:
    own = fixed((0.5, 0.5, 0.6, 0.8, 0.7), (0.5, 0.5, 0.9, 0.6, 0.9))
    answer = found(own)
    # λ = .3, though others are better on held-out samples
    assert (answer.rival, answer.reference, answer.trial, answer.wins, answer.how) == (3, 0, 3, True, "heldout")
    values = selection.values(own, METRIC)
    differences = values.loc[3] - values.loc[0]
    assert answer.evidence.p == pytest.approx(4 * stats.ttest_1samp(differences, 0).pvalue)
    # Bonferroni's interval over four rivals
    low, high = stats.t.interval(1 - 0.05 / 4, 9, differences.mean(), stats.sem(differences))
    assert (answer.difference.low, answer.difference.high) == pytest.approx((low, high))
    first, *others = summary.sentences(own, answer)
    assert (
        isinstance(first, Lead)
        and first == "Use FIERCE λ=0.3 e=100: it keeps more of the fine labels than cross-entropy (CE)."
    )
    assert "in coarse accuracy is neither shown nor excluded" in " ".join(others) and "among 4 rivals" in others[-1]


@pytest.mark.parametrize(
    ("validation", "heldout", "words"),
    [
        # the best rival is worse where it was chosen, and worse where it is tested
        ((0.5, 0.4, 0.3, 0.3, 0.3), (0.5, 0.4, 0.3, 0.3, 0.3), "nothing beats it here"),
        # better by luck where it was chosen
        ((0.5, 0.5, 0.6, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5, 0.5), "nothing is shown to beat it here"),
        # better on held-out samples alone: it was not chosen
        ((0.5, 0.4, 0.3, 0.3, 0.3), (0.5, 0.6, 0.3, 0.3, 0.3), "nothing is shown to beat it here"),
    ],
)
def test_cross_entropy_stays(validation: Sequence[float], heldout: Sequence[float], words: str) -> None:
    own = fixed(validation, heldout)
    answer = found(own)
    assert not answer.wins and answer.trial == 0
    assert summary.verdict(own, answer) == f"Stay with cross-entropy (CE): {words}."


def test_five_seeds_settle_nothing() -> None:
    own = fixed((0.5, 0.5, 0.6, 0.8, 0.7), (0.5, 0.5, 0.6, 0.8, 0.7), seeds=5)
    assert not found(own).wins
    assert "5 seeds cannot decide" in summary.verdict(own, found(own))


def test_without_validation_samples_some_seeds_choose_and_the_others_test() -> None:
    heldout = np.array([0.5, 0.5, 0.6, 0.8, 0.7])[:, None] + noise(0, 5, 10)
    # on the seeds that choose λ = 1 is best
    heldout[4, :4] += 0.5
    own = study((CE, LS, *FIERCE), {METRIC: heldout, ACCURACY: heldout})
    answer = found(own)
    assert (answer.rival, answer.how, answer.difference.n, answer.difference.planned) == (4, "apart", 6, 6)
    assert answer.difference.mean == pytest.approx((heldout[4] - heldout[0])[4:].mean()) and answer.wins


@pytest.mark.slow
def test_a_search_is_tested_on_fresh_seeds_alone(tmp_path: Path) -> None:
    """On the seeds that chose it the point is better, on fresh ones it is worse."""
    (tmp_path / "without").mkdir()
    store = write(tmp_path)
    own = Study.open(store.uri, store.name)
    answer = found(own)
    assert (answer.how, answer.rival, answer.tested, answer.against) == ("fresh", 1, 4, 3)
    assert answer.ahead and not answer.wins and answer.difference.mean == pytest.approx(0.1, abs=0.03)
    assert "nothing beats it here" in summary.verdict(own, answer)
    store = write(tmp_path / "without", confirmed=False)
    own = Study.open(store.uri, store.name)
    answer = found(own)
    assert (answer.how, answer.wins) == ("search", False) and np.isnan(answer.evidence.p)
    assert "Add confirm: 10 under search" in summary.verdict(own, answer)


@pytest.mark.slow
def test_an_answer_before_the_end_says_so(tmp_path: Path) -> None:
    store = write(tmp_path)
    client = MlflowClient(store.uri)
    own = Study.open(store.uri, store.name)
    told = summary.section(own, tmp_path / "out")
    assert told is not None and not any(str(item).startswith("So far") for item in told.items)
    (run,) = (run.info.run_id for run in own.runs if run.data.tags[schema.LEVEL] == "study")
    client.set_tag(run, schema.PLANNED_TRIALS, str(len(own.whole.trials) + 2))
    told = summary.section(Study.open(store.uri, store.name), tmp_path / "out")
    planned = len(own.whole.trials) + 2
    assert told is not None
    assert told.items[1] == f"So far: 2 of {planned} planned trials are not done, and may change this."


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_the_best_of_noise_is_seldom_recommended(fresh: bool) -> None:
    """Forty rivals as good as cross-entropy, whose luck on validation samples is theirs on held-out ones as well."""
    draws = 200
    wins = flattered = 0
    for number in range(draws):
        own, _ = drawn(number, 40, 10, 0.0, 0.9, fresh)
        wins += found(own).wins
        plain = selection.difference(own, METRIC, found(own).rival, 0)
        assert plain is not None
        flattered += plain.p <= 0.05
    assert wins <= stats.binom.ppf(0.999, draws, 0.05)
    # a plain test of what was chosen would find it far more often
    assert flattered > stats.binom.ppf(0.999, draws, 0.05)


def test_the_ceiling_is_no_rival_and_says_how_far_it_is() -> None:
    floor = Metric("floor", "floor", better="higher", fine=True, group="untrained network", floor_of=METRIC)
    points = (*(CE, LS, *FIERCE)[:4], ("fine", {}, "baseline"))
    values = {
        name: np.array(each)[:, None] + np.zeros((5, 10))
        for name, each in {
            TWIN: (0.5, 0.5, 0.6, 0.8, 0.9),
            METRIC: (0.5, 0.5, 0.6, 0.7, 0.9),
            "floor": (0.3, np.nan, np.nan, np.nan, np.nan),
            ACCURACY: (0.8,) * 5,
        }.items()
    }
    own = study(points, {name: each + noise(3, 5, 10) * (name in (TWIN, METRIC)) for name, each in values.items()})
    own.__dict__["metrics"]["floor"] = floor
    own.__dict__["criteria"] = {**own.criteria, "fine": Criterion("fine", "fine labels", fine=True)}
    answer = found(own)
    assert answer.rival == 3 and answer.among == 3
    between = recommendation.way(own, answer)
    assert between is not None and between.floors["untrained network"].mean == pytest.approx(0.3)
    assert between.shares[3].value == pytest.approx(0.4 / 0.6, abs=0.02)
    assert between.shares[0].value == pytest.approx(0.2 / 0.6, abs=0.02)
    assert "of the way from untrained network to ceiling" in summary.sentences(own, answer)[2]


def test_raw_inputs_above_the_ceiling_are_explained() -> None:
    points = (CE, LS, ("fine", {}, "baseline"))
    means = {TWIN: (0.5, 0.4, 0.8), METRIC: (0.5, 0.4, 0.8), "floor": (0.3,) * 3, "raw": (0.9,) * 3}
    own = study(points, {name: np.array(each)[:, None] + noise(3, 3, 10) for name, each in means.items()})
    floor = Metric("floor", "floor", better="higher", fine=True, group="untrained network", floor_of=METRIC)
    own.__dict__["metrics"] |= {"floor": floor, "raw": replace(floor, name="raw", group="raw inputs")}
    own.__dict__["criteria"] = {**own.criteria, "fine": Criterion("fine", "fine labels", fine=True)}
    told = "Raw inputs are above the ceiling by fine labels' R²"
    assert told in " ".join(summary.sentences(own, found(own)))
    own = study(points, {name: np.array(each)[:, None] + noise(3, 3, 10) for name, each in means.items()})
    own.__dict__["metrics"] |= {"floor": floor, "raw": replace(floor, name="raw", group="raw inputs")}
    own.__dict__["metrics"][METRIC] = replace(own.metrics[METRIC], better="lower")
    own.__dict__["criteria"] = {**own.criteria, "fine": Criterion("fine", "fine labels", fine=True)}
    assert told not in " ".join(summary.sentences(own, found(own)))


def test_the_cost_in_calibration_stands_beside_that_in_accuracy() -> None:
    own = fixed((0.5, 0.5, 0.6, 0.8, 0.7), (0.5, 0.5, 0.9, 0.6, 0.9), **{"calibration/ece": (0.1, 0.1, 0.1, 0.3, 0.1)})
    own.__dict__["metrics"]["calibration/ece"] = Metric("calibration/ece", "ECE", better="lower")
    difference = selection.difference(own, "calibration/ece", 3, 0)
    assert difference is not None
    (said,) = (each for each in summary.sentences(own, found(own)) if "coarse accuracy" in each)
    assert "Its calibration is worse: ECE 0.29" in said and said.endswith(f"{difference.bounds}.")


def test_a_recommended_setting_that_is_saturated_says_so() -> None:
    own = fixed((0.5, 0.5, 0.6, 0.8, 0.7), (0.5, 0.5, 0.9, 0.6, 0.9), batch=(3, 3, 3, 6, 3), chance=(6,) * 5)
    own.__dict__["metrics"]["batch"] = Metric("batch", "batch", chance="chance")
    own.__dict__["metrics"]["chance"] = Metric("chance", "chance")
    said = " ".join(summary.sentences(own, found(own)))
    assert "FIERCE λ=0.3 e=100 is saturated by sampling" in said and "smaller weights" in said
    own.__dict__["metrics"]["batch"] = Metric("batch", "batch")
    assert "saturated" not in " ".join(summary.sentences(own, found(own)))


def test_the_words_of_the_answer_are_explained_and_no_others() -> None:
    own = fixed((0.5, 0.5, 0.6, 0.8, 0.7), (0.5, 0.5, 0.9, 0.6, 0.9))
    weight = Hyperparameter("lambda", "λ", meaning="the weight of the entropy")
    own.__dict__["criteria"] = {
        **own.criteria,
        "fierce": replace(own.criteria["fierce"], hyperparameters=(weight,), meaning="what spreads features out"),
    }
    lines = glossary.of_answer(own, found(own), summary.sentences(own, found(own))).splitlines()
    words = [line.partition(": ")[0] for line in lines]
    assert "λ: a setting of FIERCE, the weight of the entropy." in lines
    assert "FIERCE: what spreads features out." in lines
    assert {"seed", "p"} <= set(words) and any(word.startswith("[a, b]") for word in words)
    # a store of an earlier release declares no meanings
    assert any(line.startswith("CE: ") for line in lines)
    # nothing was measured of these
    assert not {"floor", "ceiling", "the way from untrained network to ceiling", "ECE", "saturated by sampling"} & set(
        words
    )
    # the rival and the reference are told first, then what else is drawn
    assert words.index("FIERCE") < words.index("CE") < words.index("LS")


def probed(validation: Sequence[float], heldout: Sequence[float], near: Sequence[float]) -> Study:
    """`fixed` with a second probe, of these means."""
    own = fixed(validation, heldout, near=near)
    fine = own.metrics[METRIC]
    own.__dict__["metrics"] = {
        **own.metrics,
        METRIC: replace(fine, note="linear probe: ridge", group=rivals.GROUP),
        "near": replace(fine, name="near", label="nearest neighbours", note="neighbours: ten", group=rivals.GROUP),
    }
    return own


def test_another_probe_that_says_the_opposite_is_told() -> None:
    answers = (0.5, 0.4, 0.3, 0.3, 0.3), (0.5, 0.4, 0.3, 0.3, 0.3)
    own = probed(*answers, near=(0.5, 0.9, 0.5, 0.5, 0.5))
    said = " ".join(summary.sentences(own, found(own)))
    assert "Read by other probes, LS σ=0.1 is better by nearest neighbours (" in said
    assert summary.verdict(own, found(own)) == (
        "Stay with cross-entropy (CE) where features are read by fine labels' R²: nothing beats it there. LS σ=0.1 "
        "keeps more by other probes."
    )
    difference = selection.difference(own, "near", 1, 0)
    assert difference is not None and difference.bounds in said
    assert "depends on how the features will be read" in said
    # one that agrees leaves the answer as it is, and one that decides nothing is not told
    own = probed(*answers, near=(0.5, 0.1, 0.5, 0.5, 0.5))
    said = " ".join(summary.sentences(own, found(own)))
    assert "is worse by nearest neighbours" in said and "depends on" not in said
    own = probed(*answers, near=(0.5,) * 5)
    assert "other probes" not in " ".join(summary.sentences(own, found(own)))


def test_floors_are_told_without_a_ceiling() -> None:
    own = fixed((0.5, 0.4, 0.3, 0.3, 0.3), (0.5, 0.4, 0.3, 0.3, 0.3), floor=(0.25, *(np.nan,) * 4))
    floor = Metric("floor", "floor", better="higher", fine=True, group="untrained network", floor_of=METRIC)
    own.__dict__["metrics"]["floor"] = floor
    assert recommendation.way(own, found(own)) is None
    value = recommendation.floors(own, found(own))["untrained network"]
    assert value.mean == pytest.approx(0.25, abs=0.05)
    said = summary.sentences(own, found(own))[2]
    assert said.startswith("For comparison, by the same probe: untrained network 0.2") and "of the way" not in said


def test_lower_may_be_better() -> None:
    own = fixed((0.5, 0.5, 0.4, 0.2, 0.3), (0.5, 0.5, 0.4, 0.2, 0.3))
    for name, metric in own.metrics.items():
        if name != ACCURACY:
            own.__dict__["metrics"][name] = replace(metric, better="lower")
    assert found(own).trial == 3 and found(own).difference.mean < 0


def test_the_setting_that_is_best_speaks_for_its_criterion() -> None:
    chosen = selection.headline(fixed((0.5, 0.5, 0.6, 0.8, 0.7), (0.5,) * 5))["fierce"]
    assert (chosen.trial, chosen.searched) == (3, True) and chosen.why.startswith("the best of 3 settings by ")


def test_the_figure_has_a_row_for_each_setting(tmp_path: Path) -> None:
    (figure,) = summary.figure(fixed((0.5, 0.5, 0.6, 0.8, 0.7), (0.5,) * 5), tmp_path)
    assert isinstance(figure, Figure) and "In bold: FIERCE λ=0.3 e=100" in figure.caption
    text = figure.svg.read_text(encoding="utf-8")
    assert all(f"<!-- FIERCE λ={weight} e=100 -->" in text for weight in ("0.1", "0.3", "1"))


def test_one_option_singled_out_is_one_test() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, (8, 1))
    assert statistics.sign_flip_best(values, 0) == statistics.sign_flip(values[:, 0])


def test_singled_out_of_several_is_counted() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, (7, 4))
    patterns = np.array(list(product((1, -1), repeat=7)))

    def largest(signs: np.ndarray) -> np.ndarray:
        return np.abs(stats.ttest_1samp(values * signs[:, None], 0).statistic)

    for option in range(4):
        own = largest(np.ones(7))[option] - 1e-9
        share = np.mean([largest(signs).max() >= own for signs in patterns])
        assert statistics.sign_flip_best(values, option) == pytest.approx(share)
    # an option that is another's double costs nothing
    twice = np.concatenate([values, values], 1)
    assert statistics.sign_flip_best(twice, 2) == statistics.sign_flip_best(values, 2)


def test_many_seeds_draw_patterns() -> None:
    values = np.random.default_rng(2).normal(size=(24, 3))
    signs = np.random.default_rng(3).choice([-1, 1], (20_000, 24, 1))
    drawn_largest = np.abs(stats.ttest_1samp(signs * values, 0, axis=1).statistic).max(1)
    largest = int(np.abs(values.sum(0) / np.linalg.norm(values, axis=0)).argmax())
    share = np.mean(drawn_largest >= np.abs(stats.ttest_1samp(values, 0).statistic).max())
    assert statistics.sign_flip_best(values, largest) == pytest.approx(share, abs=0.02)


def test_the_share_of_the_way_covers() -> None:
    random, covered, draws = np.random.default_rng(0), 0, 1000
    for _ in range(draws):
        seed = random.normal(0, 0.02, 10)
        floor, value, ceiling = (mean + seed + random.normal(0, 0.02, 10) for mean in (0.3, 0.5, 0.7))
        share = statistics.ratio(pd.Series(value - floor), pd.Series(ceiling - floor), 10)
        assert share is not None
        covered += share.low <= 0.5 <= share.high
    assert stats.binom.ppf(0.001, draws, 0.95) <= covered <= stats.binom.ppf(0.999, draws, 0.97)
    exact = statistics.ratio(pd.Series([0.1, 0.2]), pd.Series([0.4, 0.4]), 2)
    assert exact is not None
    low, high = stats.t.interval(0.95, 1, 0.375, stats.sem([0.25, 0.5]))
    assert (exact.value, exact.low, exact.high) == pytest.approx((0.375, low, high))
    assert statistics.ratio(pd.Series([-0.3]), pd.Series([-0.4]), 1) is None


@pytest.mark.slow
def test_small_trainings_of_a_table_whose_answer_is_known() -> None:
    counted, truth = of_trainings(MARGIN, 3, 10, 70)
    assert (counted.runs, counted.wrong) == (3, 0) and counted.right == 3
    # what clamps the margin loses it
    assert truth[0] == 0 and truth[2] < 0 and truth[4] < 0
