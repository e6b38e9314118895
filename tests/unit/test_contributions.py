"""What the features of a linear model add up to (stream/console/contributions.py)."""

import math
from typing import Any

import pytest
from river import compose, linear_model, naive_bayes, optim, preprocessing, tree

from stream.console.contributions import contributions

X: dict[str, Any] = {"a": 2.0, "b": -1.0, "kind": "red", "never": 0.0}


def mixed(last: Any) -> Any:
    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    return (numbers + (compose.SelectType(str) | preprocessing.OneHotEncoder())) | last


@pytest.mark.parametrize("last", [linear_model.LogisticRegression(optim.SGD(0.1)), linear_model.LinearRegression()])
def test_they_add_up_to_the_answer(last: Any) -> None:
    model = mixed(last)
    for number in range(50):
        model.learn_one({**X, "a": float(number), "kind": "red" if number % 2 else "blue"}, number % 2 == 0)
    found = contributions(model, X)
    assert found is not None
    total = sum(value for _, value in found)
    if isinstance(last, linear_model.LogisticRegression):
        assert 1 / (1 + math.exp(-total)) == pytest.approx(model.predict_proba_one(X)[True])
    else:
        assert total == pytest.approx(model.predict_one(X))
    assert [name for name, _ in found][-1] == "(intercept)"


OTHERS = [naive_bayes.GaussianNB(), mixed(tree.HoeffdingTreeClassifier()), tree.HoeffdingTreeRegressor()]


@pytest.mark.parametrize("model", OTHERS, ids=lambda model: type(model).__name__)
def test_others_have_none(model: Any) -> None:
    assert contributions(model, X) is None
