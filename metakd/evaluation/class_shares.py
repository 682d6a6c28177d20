"""Known shares of the classes: how far a classifier's logits must be shifted to predict each class that often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from metakd.errors import InputError, name_list, nearest

SHARES = "class_shares.json"  # in the folder of a shifted classifier
TOLERANCE = 0.005  # by which shares that a person wrote may miss 1


def share_shift(logits: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """What to add to each class's logits so that the mean probability of the class over the rows is its share.

    A correction for prior shift. Class mass normalisation (Zhu, Ghahramani & Lafferty 2003, ICML) multiplies the
    probabilities of a class by share / mean; this repeats that until the normalised probabilities have these means.
    The shift is where mean(logsumexp(logits + shift)) - shares · shift is least: that is convex, and its gradient is
    mean probabilities less shares. The shift is unique up to a constant; this one has the sum 0.

    Args:
        logits: [n, C].
        shares: [C], above 0, with the sum 1.
    """
    logits = logits.astype(np.float64)

    def loss(shift: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = logits + shift
        return float(logsumexp(shifted, axis=1).mean() - shares @ shift), softmax(shifted, axis=1).mean(0) - shares

    start = np.zeros(logits.shape[1])
    shift = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return shift - shift.mean()


def read_shares(shares: Mapping[str, float], names: Sequence[str]) -> np.ndarray:
    """Shares [C] in the order of the class names.

    Raises:
        InputError: a class has no share, or one that is not above 0, or the sum is not 1.
    """
    for name in shares:
        if name not in names:
            raise InputError(
                f"--class_shares: {name!r} is no class; there are {name_list(names)}{nearest(name, names)}"
            )
    if missing := [name for name in names if name not in shares]:
        raise InputError(f"--class_shares has none of class {name_list(missing)}; give a share of each class")
    for name, share in shares.items():
        if not 0 < share < 1:
            raise InputError(f"--class_shares: {name!r} is {share:g}; it must be above 0 and below 1")
    values = np.array([shares[name] for name in names])
    if abs(values.sum() - 1) > TOLERANCE:
        raise InputError(f"--class_shares add up to {values.sum():g}; they must add up to 1")
    return values / values.sum()
