"""Write learners/river/types.txt: the exact (module, name) pairs that River state may name.

Run after changing the pinned River, and read the diff::

    python scripts/river_types.py > learners/river/types.txt

Every class that River itself defines outside the packages that read files, networks or run other code, the
classes of its part in Rust, and the functions and nested names that trained estimators were seen to pickle
(tests/support/variants.py makes every estimator with every documented parameter). What they hold of numpy and of the
standard library has rules of its own in learners/river/foreign_types.py.
"""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from types import ModuleType

import river
from river import _river_rust

_LEFT_OUT = {"api", "datasets", "stream", "evaluate", "checks", "conftest", "test", "utils.inspect", "utils.pretty"}
# Functions and nested names of River itself that trained estimators pickle, each exact.
_NESTED = """
river._river_rust.vectordict euclidean_distance_dict
river._river_rust.vectordict euclidean_distance_tuple
river.cluster.denstream DenStream.BufferItem
river.cluster.textclust TextClust.Distances
river.cluster.textclust TextClust.MicroCluster
river.feature_extraction.vectorize find_all_ngrams
river.feature_extraction.vectorize remove_stop_words
river.feature_extraction.vectorize strip_accents_unicode
river.feature_extraction.vectorize tokenize_using_regex_pattern
river.forest.online_extra_trees ExtraTrees._detection_mode_all
river.forest.online_extra_trees ExtraTrees._detection_mode_drop
river.forest.online_extra_trees ExtraTrees._detection_mode_off
river.naive_bayes.gaussian GaussianNB._make_gaussian
river.metrics.mutual_info _average_arithmetic
river.metrics.mutual_info _average_geometric
river.tree.splitter.ebst_splitter EBSTNode._update_estimator_multivariate
river.tree.splitter.ebst_splitter EBSTNode._update_estimator_univariate
river.tree.splitter.nominal_splitter_reg NominalSplitterReg._update_estimator_multivariate
river.tree.splitter.nominal_splitter_reg NominalSplitterReg._update_estimator_univariate
river.utils.math minkowski_distance
"""


def modules() -> Iterator[ModuleType]:
    """Every module of River that is neither a test nor left out."""
    for found in pkgutil.walk_packages(river.__path__, "river."):
        short = found.name.removeprefix("river.")
        if any(short == name or short.startswith(name + ".") for name in _LEFT_OUT) or ".test" in found.name:
            continue
        try:
            yield importlib.import_module(found.name)
        except ImportError:
            continue


def pairs() -> set[tuple[str, str]]:
    """Each class that River defines, by the module and name that pickle would write."""
    found = set()
    for module in modules():
        for _, value in inspect.getmembers(module):
            if inspect.isclass(value) and value.__module__.startswith("river.") and "." not in value.__qualname__:
                found.add((value.__module__, value.__qualname__))
    for _, part in inspect.getmembers(_river_rust, inspect.ismodule):
        found |= {(cls.__module__, cls.__qualname__) for _, cls in inspect.getmembers(part, inspect.isclass)}
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for module, name in sorted(pairs() | {tuple(line.split()) for line in _NESTED.split("\n") if line}):
        print(module, name)
