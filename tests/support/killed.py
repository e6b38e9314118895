"""The learners of a lineage whose processes are killed."""

LEARNERS = {
    "linear": {"kind": "river", "factory": "model:logreg", "role": "champion"},
    "hashed": {"kind": "vw", "args": "--loss_function logistic"},
}
