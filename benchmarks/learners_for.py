"""The two linear learners of the benchmarks, built without a trainer."""

from river import linear_model, optim, preprocessing

from learners.labels import Labels
from learners.river.learner import RiverLearner
from learners.vw.arguments import arguments, trial
from learners.vw.learner import VwLearner


def river_linear() -> RiverLearner:
    """Scaler and logistic regression."""
    return RiverLearner.of(preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01)))


def vw_linear() -> VwLearner:
    """Logistic loss, 18 bits."""
    return VwLearner(trial(arguments("--loss_function logistic", "bench"), "binary", "bench"), Labels("binary"))
