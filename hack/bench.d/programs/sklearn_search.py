"""Cross-validates random forests with scikit-learn in the worker processes of joblib."""

from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score


def main():
    inputs, classes = make_classification(n_samples=1500, n_features=20, n_informative=8, random_state=1)
    for depth in range(1, 16):
        forest = RandomForestClassifier(n_estimators=20 + 5 * depth, max_depth=depth, random_state=depth)
        scores = cross_val_score(forest, inputs, classes, cv=4, n_jobs=2)
        print("depth", depth, *(score.hex() for score in scores), flush=True)


if __name__ == "__main__":
    main()
