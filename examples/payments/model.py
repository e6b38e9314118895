"""The River models of this lineage. Change them freely; a changed model begins under a new name."""

from numbers import Number

from river import base, compose, linear_model, optim, preprocessing


def linear() -> base.Classifier:
    """Scale the numbers, one-hot the texts, and learn a logistic regression."""
    numbers = compose.SelectType(Number) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression(optim.SGD(0.03))
