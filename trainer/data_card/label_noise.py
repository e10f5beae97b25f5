"""How far the labels of copies of one picture differ, and what that says about the error that nobody can go below."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from trainer.labels import UNKNOWN
from trainer.scores.bootstrap import Bootstrap, mean_of


@dataclass(frozen=True)
class LabelNoise:
    """Differences between labels of copies; each is (value, low, high) with a 95 % interval over groups.

    `age_difference_years`: mean of |a - b| over pairs of copies, each group counting once.
    `same_age`: share of the pairs with the same age. `gender_disagreement`: share of the pairs with different genders.
    """

    groups: int
    pictures: int
    age_difference_years: tuple[float, float, float]
    same_age: tuple[float, float, float]
    gender_disagreement: tuple[float, float, float]

    @property
    def lowest_age_mae(self) -> tuple[float, float]:
        """Bounds in years of the MAE that a perfect estimator of the true age would still have against these labels.

        With labels = truth + independent noise e of mean 0, a difference is e - e', and for any distribution of e
        E|e - e'| / 2 <= E|e| <= E|e - e'|. For Gaussian noise E|e| is E|e - e'| / sqrt(2), in between.
        """
        return self.age_difference_years[0] / 2, self.age_difference_years[0]

    @property
    def gaussian_age_mae(self) -> float:
        return self.age_difference_years[0] / np.sqrt(2)

    @property
    def highest_gender_accuracy(self) -> float:
        """Of a perfect estimator, if each label is wrong with one probability q: two copies then differ in 2q(1 - q)."""
        return (1 + np.sqrt(max(0.0, 1 - 2 * self.gender_disagreement[0]))) / 2


def measure_label_noise(manifest: pd.DataFrame, identical_only: bool = False) -> LabelNoise | None:
    """Compare the source's labels within groups of decodable, labelled pictures; None where no group has two.

    Args:
        identical_only: groups of pictures with the same pixels, instead of near-identical ones.
    """
    key = "pixel_hash" if identical_only else "group"
    known = (manifest[key] != "") & (manifest["source_age"] != UNKNOWN) & (manifest["source_gender"] != UNKNOWN)
    copies = manifest[known & manifest[known].duplicated(key, keep=False).reindex(manifest.index, fill_value=False)]
    rows = []
    for _, group in copies.groupby(key):
        ages, genders = group["source_age"].to_numpy(), group["source_gender"].to_numpy()
        pairs = list(combinations(range(len(group)), 2))
        differences = np.array([abs(int(ages[i]) - int(ages[j])) for i, j in pairs])
        unlike = np.array([genders[i] != genders[j] for i, j in pairs])
        rows.append((differences.mean(), (differences == 0).mean(), unlike.mean()))
    if not rows:
        return None
    values = np.array(rows)
    bootstrap = Bootstrap(np.arange(len(values)))

    def with_interval(column: np.ndarray) -> tuple[float, float, float]:
        return (float(column.mean()), *bootstrap.interval(mean_of(column)))

    return LabelNoise(len(values), len(copies), *(with_interval(column) for column in values.T))
