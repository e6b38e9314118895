"""The candidates of the roll-out drills: what they are made of, and the settings of a quick ramp."""

#: the learner of a stage that is rolled out, and how each drill has it made
CANARY = "canary"
_RAMP = {
    "HOLDFAST_ROLLOUT__MIN_EVENTS": "20", "HOLDFAST_ROLLOUT__MIN_SECONDS": "1",
    "HOLDFAST_ROLLOUT__MAX_PREDICTION_SHIFT": "1", "HOLDFAST_ROLLOUT__MAX_P99_MS": "1000",
}  # fmt: skip
_RIVER = {"HOLDFAST_LEARNERS__CANARY__KIND": "river", "HOLDFAST_LEARNERS__CANARY__FACTORY": "model:canary"}
_GOOD = _RAMP | _RIVER
#: model.py's function for a candidate that raises where the amount is a text, and is as good as the champion else
_AMOUNT = """

def canary():
    amount = compose.Select("amount") | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (amount + texts) | linear_model.LogisticRegression(optim.SGD(0.03))
"""
_FOREST = """

def canary():
    from river import forest
    return compose.Select("amount", "country", "merchant") | forest.ARFClassifier(n_models=5, seed=1)
"""
ROLLOUT_DRILLS: dict[str, tuple[dict[str, str], str]] = {
    "bad-canary": (
        _RAMP | {"HOLDFAST_LEARNERS__CANARY__KIND": "vw",
                 "HOLDFAST_LEARNERS__CANARY__ARGS": "--loss_function logistic -l 0.0001"}, "",
    ),
    "crashing-canary": (_GOOD, _AMOUNT),
    "slow-canary": (_GOOD | {"HOLDFAST_ROLLOUT__MAX_P99_MS": "0.1"}, _FOREST),
    "ramp-broker-down": (_GOOD, _AMOUNT),
    "ramp-serving-killed": (_GOOD, _AMOUNT),
}  # fmt: skip
