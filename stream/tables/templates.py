"""What ``holdfast init`` writes."""

CONFIGURATION = """# Holdfast: the configuration. Every key and its default: docs/configuration.md
# Every key can be set from the environment: HOLDFAST_SERVE__PORT=9000

name = "{name}"                       # names the lineage, the Kafka group, the metrics
task = "binary"                       # binary | multiclass | regression

[source]
kind = "files"                        # follows *.jsonl in a directory; no server needed
directory = "events"
# kind = "kafka"                      # or topics of a broker:
# topics = ["payments"]
start = "earliest"                    # or latest; resolved once, when the lineage begins

# [source.kafka]                      # any librdkafka setting, SASL and TLS included
# "bootstrap.servers" = "127.0.0.1:9092"

[event]                               # where the fields of an event are
id = "id"
time = "ts"
features = "x"                        # "." when features lie flat beside id and label
label = "y"
positive = 1                          # the label that means yes
slices = ["country"]                  # metrics are also kept for each of its values

[learners.linear]                     # River: any classifier, by module:function
kind = "river"
factory = "model:linear"              # the file model.py beside this one
role = "champion"                     # answers requests

[learners.hashed]                     # Vowpal Wabbit, by its own arguments
kind = "vw"
args = "--loss_function logistic -b 18 -q ::"
role = "challenger"                   # learns and is scored beside the champion
"""

#: what is the same for every lineage that begins from a folder; ``port`` is filled in
OPERATION = """[store]
url = "store"                         # snapshots, verdicts, ledger

[signing]                             # snapshots, verdicts and decisions are signed, and what is not does not count
private_key_file = "signing-key.pem"  # keep a copy of it elsewhere

[snapshots]
every_seconds = 1.0                   # whichever comes first
every_events = 100_000
keep = {{ last = 50, minutely = 60, hourly = 48, daily = 30 }}

[holdout]
rate = 0.02                           # share of labelled events set aside and never learnt

[predictions]                         # every answered request is kept, so that its label can come later
directory = "predictions"

[labels]                              # labels that come later, by POST /labels (docs/labels.md)
directory = "labels"

[join]
wait = "30m"                          # how long an event waits for its label

[serve]
host = "127.0.0.1"
port = {port}
token_file = "token"                  # bearer token for POST /revert
events_token_file = "events-token"    # bearer token for POST /events
labels_token_file = "labels-token"    # bearer token for POST /labels
"""

MODEL = '''"""The River models of this lineage. Change them freely; a changed model begins under a new name."""

from numbers import Number

from river import base, compose, linear_model, optim, preprocessing


def linear() -> base.Classifier:
    """Scale the numbers, one-hot the texts, and learn a logistic regression."""
    numbers = compose.SelectType(Number) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression(optim.SGD(0.03))
'''
