"""How a study stands in MLflow: the names that the tracking writes and the analysis reads.

An experiment per study. Three levels of runs: study -> trial -> seed, nested by ``mlflow.parentRunId``.
The seed runs hold the trajectories (step = epoch, 1-based); a trial's run holds their means over its seeds.
"""

from __future__ import annotations

#: tag: "study", "trial" or "seed"
LEVEL = "fierce.level"
#: tags on every run of a study
STUDY = "fierce.study"
#: of the study's own run: what tells it from another study of that name
IDENTITY = "fierce.study_id"
#: tags on trial and seed runs
TRIAL = "fierce.trial"  # Optuna's trial number, decimal
CRITERION = "fierce.criterion"
PROTOCOL = "fierce.protocol"
BENCHMARK = "fierce.benchmark"
#: tag on seed runs
SEED = "fierce.seed"
#: tag on study and trial runs: the planned seeds, "0,1,2"
SEEDS = "fierce.seeds"
#: tags on trial and seed runs, known once the data is loaded
DATA_NAME = "fierce.data.name"
DATA_PROVENANCE = "fierce.data.provenance"  # real, semi-synthetic or simulated
DATA_FINGERPRINT = "fierce.data.fingerprint"
DATA_DESCRIPTION = "fierce.data.description"
DATA_CLASSES = "fierce.data.classes"  # names of the coarse classes, a JSON list
#: tag on trial runs: "baseline" (fixed point), "grid" or "search"
ROLE = "fierce.role"
#: tag on failed trial and seed runs
REASON = "fierce.reason"
#: tag on the study run: the resolved study file, as YAML, is the artifact of this name
STUDY_FILE = "study.yaml"
#: tag on trial and seed runs: names of their artifacts, "a,b", once they are there
KEPT = "fierce.kept"
#: tag on the study run: how many trials are planned, decimal
PLANNED_TRIALS = "fierce.planned_trials"

#: artifacts of the study run, by which the store describes itself: what each criterion and metric of the study is.
#: A list of {name, label, order, reference, hyperparameters: [{name, symbol, whole, log}]}, in the report's order, and
#: one of {name, label, note, unit, better: lower|higher|none, fine: whether it reads fine labels}
CRITERIA_FILE, METRICS_FILE = "criteria.json", "metrics.json"

#: hyperparameters as MLflow params on trial and seed runs, absent where the criterion does not read them
HYPERPARAMETERS = ("lambda", "e", "sigma", "beta")

#: artifact of a seed run: arrays kept after the last epoch, by name (see the evaluators' ``arrays``)
ARRAYS = "arrays.npz"
#: artifact of a trial run: the weights of all replicas after the last epoch
WEIGHTS = "weights.pt"


def weights_file(position: int, count: int) -> str:
    """The artifact's name where the trial was trained in ``count`` shards of its seeds: each has its own."""
    return WEIGHTS if count == 1 else f"weights-{position + 1}-of-{count}.pt"


#: every metric: name -> (axis label, what it is)
METRICS = {
    "loss/train": ("training loss", "the criterion's value, mean over the epoch's batches"),
    "accuracy/train": ("training accuracy", "coarse accuracy over the epoch's batches, while training"),
    "accuracy/coarse": ("coarse accuracy", "share of held-out samples whose coarse class is right"),
    "accuracy/validation": ("coarse validation accuracy", "the same on the validation split"),
    "mse/raw": (
        "raw MSE",
        "softmax output against the fine labels: squared error summed over materials, mean over samples",
    ),
    "rmse/raw": ("raw RMSE", "square root of mse/raw, eq. 14 to the letter"),
    "mse/transfer": (
        "transfer MSE",
        "the paper's probe, last epoch: linear + softmax on frozen features, Adam lr 0.1; mean over materials",
    ),
    "mse/transfer-min": (
        "transfer MSE, best epoch",
        "the same probe at its best epoch, as the released notebook also prints",
    ),
    "mse/transfer-standardized": (
        "transfer MSE, standardized",
        "the same probe on standardized features, Adam lr 0.01",
    ),
    "mse/transfer-least-squares": (
        "transfer MSE, least squares",
        "closed-form affine least squares from the features to the fine labels",
    ),
    "entropy/features": ("feature entropy (bits)", "released histogram of all values, 10 bins (age: 100), log2"),
    "entropy/spectral": ("spectral entropy (bits)", "entropy of the normalised eigenvalues of the feature covariance"),
    "entropy/anchors": ("anchor entropy (bits)", "one-hot assignment to the nearest anchor (eq. 10), log2"),
    "features/scale": ("feature scale", "standard deviation over all feature values"),
    "calibration/ece": ("ECE", "expected calibration error over all class probabilities, 10 bins"),
    "calibration/mce": ("MCE", "maximum calibration error over all class probabilities, 10 bins"),
    "information/mutual": ("mutual information (bits)", "H(mean q) − mean H(q), log2"),
    "stability": ("stability", "1 − mean over classes of the deviation of q_c among the samples predicted as c"),
    "stability/released": ("stability, released", "the released code's: the last class alone"),
}

_CLASSES = {"": "novel", "-validation": "validation"}
_FEATURES = {"": "", "-normalized": " on features centred and scaled to unit length"}
#: few-shot transfer and CIFAR-10
METRICS |= {
    f"accuracy/{k}-shot{kind}{part}{interval}": (
        f"{k}-shot accuracy{', normalized' if kind else ''}{', validation classes' if part else ''}"
        f"{', half-width over runs' if interval else ''}",
        f"nearest class mean of {k} labelled samples a class{features}, {classes} classes, "
        + ("half the 95% Student-t interval over runs" if interval else "mean over runs"),
    )
    for k in (1, 5)
    for kind, features in _FEATURES.items()
    for part, classes in _CLASSES.items()
    for interval in ("", "-ci")
}
METRICS |= {
    "geometry/between-within": (
        "between-class to within-class distance",
        "mean distance of two class means over the mean distance of a sample to its own class mean",
    ),
    "geometry/cat-dog": ("cat–dog distance", "distance of these class means over the mean distance of any two"),
}
#: age estimation: squared errors in years²
METRICS |= {
    "mse/transport": (
        "age MSE, training images",
        "released: optimal transport interpolated with class means, on 10,000 training images, best β chosen on them",
    ),
    "mse/transport-hard": ("age MSE, true class", "the same with the mean age of the true class"),
    "mse/transport-alone": ("age MSE, transport alone", "optimal transport without the class means (β = 0)"),
    "mse/class-mean": ("age MSE, class mean", "the mean age of the predicted class alone (β = 1)"),
    "mse/random-pairing": ("age MSE, random pairing", "ages dealt at random, the expected value"),
    "interpolation/beta": ("interpolation coefficient β", "the β of mse/transport: 1 ignores the feature"),
    "mse/transport-heldout": (
        "age MSE, held out",
        "held-out images, with the ages and class means of the training images and β chosen on validation images",
    ),
    "mse/class-mean-heldout": ("age MSE, class mean, held out", "the mean age of the predicted class alone (β = 1)"),
    "interpolation/beta-heldout": ("interpolation coefficient β, held out", "the β of mse/transport-heldout"),
    "entropy/features-corrected": (
        "feature entropy, corrected (bits)",
        "100-bin histogram with the Miller–Madow correction of its bias",
    ),
}
METRICS |= {
    f"{name}-double-softmax": (f"{METRICS[name][0]}, double softmax", "with the released age code's second softmax")
    for name in ("calibration/ece", "calibration/mce", "information/mutual", "stability")
}
