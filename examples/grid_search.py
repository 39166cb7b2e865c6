"""A grid search: which parameters of a model do best in cross validation, each choice as a job.

    python grid_search.py

With scikit-learn if it is installed, as `GridSearchCV` does it, only that the work goes to all nodes; without
it by a small model of nearest neighbours, so that the example always runs.
"""

from __future__ import annotations

import importlib.util
import itertools
import random
from typing import Any

import roundq

#: The values that are tried, each with each.
GRID = {"neighbors": [1, 5, 15], "power": [1, 2]}
FOLDS = 4


def score_by_sklearn(neighbors: int, power: int) -> float:
    """The mean accuracy of scikit-learn's classifier for the irises."""
    # Imported where it is used: on the node.
    from sklearn.datasets import load_iris
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    flowers, kinds = load_iris(return_X_y=True)
    model = KNeighborsClassifier(n_neighbors=neighbors, p=power)
    return float(cross_val_score(model, flowers, kinds, cv=FOLDS).mean())


def score_by_hand(neighbors: int, power: int) -> float:
    """The same for two clouds of points, by nearest neighbours in plain Python."""
    chance = random.Random(1)
    points = [(chance.gauss(kind, 0.8), chance.gauss(kind, 0.8), kind) for kind in (0, 2) for _ in range(40)]
    chance.shuffle(points)
    right = 0
    for fold in range(FOLDS):
        known = [point for place, point in enumerate(points) if place % FOLDS != fold]
        for x, y, kind in points[fold::FOLDS]:
            # The root would not change the order.
            near = sorted(known, key=lambda one: abs(one[0] - x) ** power + abs(one[1] - y) ** power)
            kinds = [one[2] for one in near[:neighbors]]
            right += max(set(kinds), key=kinds.count) == kind
    return right / len(points)


def main() -> None:
    """Prints the scores, the best last."""
    score = score_by_sklearn if importlib.util.find_spec("sklearn") else score_by_hand
    choices: list[dict[str, Any]] = [
        dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())
    ]
    with roundq.Executor(cores=1, memory="500M", time="10m", name="grid") as executor:
        futures = [executor.submit(score, **choice) for choice in choices]
        scores = [future.result() for future in futures]
    for found, choice in sorted(zip(scores, choices, strict=True), key=lambda one: one[0]):
        print(f"{found:.3f}", *(f"{name}={value}" for name, value in choice.items()))


if __name__ == "__main__":
    main()
