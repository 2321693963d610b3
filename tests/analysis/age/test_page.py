"""Age estimation's figures, tables and verdicts on the known study; the gap of early stopping on noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import claims, report, selection, trajectories
from analysis.age import claims as age_claims
from analysis.age import early_stopping, feature_against_age
from analysis.claims import FAILS, HOLDS, NO_VERDICT, UNDECIDED, UNTESTED
from analysis.output import Figure
from analysis.runs import Study
from tests.analysis.age.known_age import DEVIATIONS, EPOCHS, SLOPES, TURN, write_age_store
from tests.analysis.known_study import Store


@pytest.fixture(scope="module")
def ages(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_age_store(tmp_path_factory.mktemp("ages"))


@pytest.fixture(scope="module")
def study(ages: Store) -> Study:
    return Study.open(ages.uri, ages.name)


@pytest.fixture(scope="module")
def verdicts(study: Study) -> dict[tuple[str, str], str]:
    table = claims.judge(study, age_claims.CLAIMS)
    return {(row["claim"], row["measured by"]): row["verdict"] for _, row in table.iterrows()}


@pytest.mark.slow
def test_gap_is_the_rise_since_the_turn(study: Study) -> None:
    curves = trajectories.by_criterion(study, "mse/transport")
    rise = {seed: SLOPES["ce"] * (EPOCHS - TURN) * (1 + deviation) for seed, deviation in DEVIATIONS.items()}
    pd.testing.assert_series_equal(trajectories.gap(curves["ce"]), pd.Series(rise), check_names=False)
    # FIERCE is at its best at the end
    assert (trajectories.gap(curves["fierce"]) == 0).all()


@pytest.mark.slow
def test_gap_of_noise_is_none_where_the_own_best_epoch_invents_one() -> None:
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 300)), index=range(1, 41))
    gaps = trajectories.gap(noise)
    assert abs(gaps.mean()) < 3 * stats.sem(gaps)
    own = noise.iloc[-1] - noise.min()
    assert own.mean() > 20 * stats.sem(own)


def test_gap_of_one_seed_and_of_an_entropy() -> None:
    rising = pd.DataFrame({0: [1.0, 4.0, 2.0], 1: [2.0, 5.0, 3.0]}, index=[2, 4, 6])
    assert trajectories.gap(rising, largest=True).tolist() == [-2.0, -2.0]
    assert trajectories.gap(rising[[0]]).isna().all()


@pytest.mark.slow
def test_summary(study: Study) -> None:
    rows = {(names[""], names["error"]): row for names, row in early_stopping.summary(study)}
    row = rows["LS σ=0.1", "age MSE, training images"]
    rises = [SLOPES["ls"] * (EPOCHS - TURN) * (1 + deviation) for deviation in DEVIATIONS.values()]
    gap = row["last less best, chosen on the other seeds"]
    assert gap.mean == pytest.approx(np.mean(rises))
    low, high = stats.t.interval(0.95, len(DEVIATIONS) - 1, np.mean(rises), stats.sem(rises))
    assert (gap.low, gap.high) == (pytest.approx(low), pytest.approx(high))
    assert row["epoch of the best"].mean == TURN
    assert row["rank correlation with entropy"].mean == pytest.approx(-1)


def test_length_says_that_a_short_study_is_short(study: Study) -> None:
    # 1,000 images in batches of 64: 16 steps an epoch
    text = early_stopping.length(study)
    assert "8 epochs in batches of 64: at most 128 steps" in text and "This is a short study" in text


def test_the_papers_setting_speaks_for_fierce(study: Study) -> None:
    choice = selection.headline(study)["fierce"]
    assert (choice.label, choice.why) == ("FIERCE λ=0.3 e=100", "the paper's setting")


def test_feature_against_age(study: Study) -> None:
    correlations = feature_against_age.correlations(study)
    assert correlations["fierce"][["all ages", "within the classes"]].to_numpy() == pytest.approx(1.0)
    # twelve features, all different
    assert correlations["fierce"]["images at one value"].to_numpy() == pytest.approx(1 / 12)
    assert correlations["ce"]["within the classes"].to_numpy() == pytest.approx(31 / 35)
    arrays = study.arrays(0, 0)
    assert correlations["ce"].loc[0, "all ages"] == pytest.approx(
        stats.spearmanr(arrays["features"][:, 0], arrays["fine"]).statistic
    )


@pytest.mark.parametrize(
    ("claim", "measure", "verdict"),
    [
        ("CE and LS reach", "held out, last less best epoch, LS", HOLDS),
        ("While CE's", "within ±0.02, CE", HOLDS),
        ("FIERCE reaches", "training images", HOLDS),
        ("FIERCE needs", "training images, last less best epoch at most", HOLDS),
        ("FIERCE needs", "held out, last less best epoch, FIERCE against CE", HOLDS),
        # 150 against 200
        ("FIERCE does not", "training images", FAILS),
        # the entropy falls by what the error rises, but one course is the other's multiple: of ten seeds five lie above
        # the mean's, which as many pairings give as halves of ten match
        (
            "Entropy of the features",
            "epoch to epoch, feature entropy (bits) and age MSE, training images, LS",
            UNDECIDED,
        ),
        (
            "Entropy of the features",
            "correlation along training, feature entropy (bits) and age MSE, held out, LS",
            NO_VERDICT,
        ),
        # 250, 240, 150, 180, 170, 152, 151
        (
            "Entropy of the features",
            "over the settings at the last epoch, feature entropy (bits) and age MSE, held out",
            NO_VERDICT,
        ),
        # a seed's entropy is lower by what its error is higher
        (
            "Entropy of the features",
            "seeds of a setting at the last epoch, feature entropy (bits) and age MSE, held out",
            HOLDS,
        ),
        ("Under CE and LS the entropy", "CE", HOLDS),
        ("FIERCE raises", "corrected (bits), FIERCE against CE", HOLDS),
        ("The features tell", "FIERCE", HOLDS),
        ("Under FIERCE the features", "against LS", HOLDS),
        # λ = 0, .1, .3, 1: 250, 180, 150, 170
        ("There is an optimal", "training images", HOLDS),
        # accuracy .80, .80, .79, .70
        ("The best λ", "training images", HOLDS),
        # β falls: .9, .7, .5, .3
        ("The interpolation coefficient", "held out", FAILS),
        # 152, 150, 151
        ("The error is stable", "held out", HOLDS),
        ("FIERCE has the highest", "mutual information (bits), FIERCE against CE", HOLDS),
        ("FIERCE has the highest", "double softmax, FIERCE against CE", UNTESTED),
        ("The stability", "stability, FIERCE against LS", HOLDS),
        # all criteria have the same
        ("Neither LS", "ECE, LS", UNDECIDED),
    ],
)
def test_verdict(verdicts: dict[tuple[str, str], str], claim: str, measure: str, verdict: str) -> None:
    outcomes = [value for (sentence, by), value in verdicts.items() if sentence.startswith(claim) and measure in by]
    assert outcomes == [verdict]


def test_a_longer_training_that_only_falls_does_not_rise(study: Study) -> None:
    assert age_claims.rises(study, "mse/transport", "fierce").outcome == UNDECIDED
    assert age_claims.entropy_falls(study, "fierce").outcome == UNDECIDED
    # no rise, during which the accuracy could stay
    assert age_claims.keeps_accuracy(study, "fierce").outcome == UNTESTED


@pytest.mark.slow
def test_report(ages: Store, tmp_path: Path) -> None:
    page = report.write(ages.uri, ages.name, tmp_path).read_text(encoding="utf-8")
    for stem in ("figure1", "sensitivity-lambda", "sensitivity-anchors", "feature-age", "reliability"):
        assert (tmp_path / f"{stem}.svg").is_file() and (tmp_path / f"{stem}.png").is_file()
        assert f"{stem}.svg" in page
    for stem in ("early-stopping", "age-released", "age-heldout", "age-differences", "output-metrics", "claims"):
        assert (tmp_path / f"{stem}.csv").is_file() and (tmp_path / f"{stem}.md").is_file()
    # no number of another benchmark stands beside
    assert "notebook" not in page
    assert "This is a short study" in page
    table = pd.read_csv(tmp_path / "age-released.csv").set_index(["label", "metric"])
    assert table.loc[("CE", "mse/transport"), "mean"] == pytest.approx(250)


def test_figure1_rescales_the_entropy_over_the_study(study: Study, tmp_path: Path) -> None:
    figure = next(item for item in early_stopping.section(study, tmp_path).items if isinstance(item, Figure))
    curves = trajectories.by_criterion(study, "entropy/features").values()
    low = min(float(curve.min().min()) for curve in curves)
    high = max(float(curve.max().max()) for curve in curves)
    assert f"0 is {low:.2f} and 1 is {high:.2f} bits" in figure.caption
