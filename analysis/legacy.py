"""What stores held before a study declared its own metrics and criteria: the labels and notes of that time, frozen.

Nothing is added here: a new metric or criterion declares itself, and its declaration stands with the study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.declarations import Criterion, Hyperparameter, Metric

#: name -> (axis label, what it is)
_TEXTS = {
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
_TEXTS |= {
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
_TEXTS |= {
    "geometry/between-within": (
        "between-class to within-class distance",
        "mean distance of two class means over the mean distance of a sample to its own class mean",
    ),
    "geometry/cat-dog": ("cat–dog distance", "distance of these class means over the mean distance of any two"),
}
#: age estimation: squared errors in years²
_TEXTS |= {
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
_TEXTS |= {
    f"{name}-double-softmax": (f"{_TEXTS[name][0]}, double softmax", "with the released age code's second softmax")
    for name in ("calibration/ece", "calibration/mce", "information/mutual", "stability")
}

#: every metric of such stores
METRICS: Mapping[str, Metric] = {name: Metric(name, label, note) for name, (label, note) in _TEXTS.items()}
_WEIGHT = "the weight of the entropy"
#: every criterion of such stores, in the order of figures and tables; each ``meaning`` for later ones too
CRITERIA: Mapping[str, Criterion] = {
    criterion.name: criterion
    for criterion in (
        Criterion("ce", "CE", reference=True, meaning="cross-entropy on the coarse labels alone"),
        Criterion(
            "ls",
            "LS",
            (Hyperparameter("sigma", "σ", meaning="the share of each target that is spread out"),),
            meaning="label smoothing: cross-entropy against targets that are softened",
        ),
        Criterion(
            "fierce",
            "FIERCE",
            (
                Hyperparameter("lambda", "λ", log=True, meaning=_WEIGHT),
                Hyperparameter("e", "e", whole=True, log=True, meaning="the number of anchors"),
            ),
            meaning="cross-entropy less the entropy of the features' assignment to anchors, which spreads them out",
        ),
        Criterion(
            "confidence-penalty",
            "confidence penalty",
            (Hyperparameter("beta", "β", log=True, meaning=_WEIGHT),),
            meaning="cross-entropy less the entropy of the output",
        ),
    )
}
#: their hyperparameters in the order of columns, which every frame of trajectories keeps
HYPERPARAMETERS: Sequence[str] = ("lambda", "e", "sigma", "beta")
