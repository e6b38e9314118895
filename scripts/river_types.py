"""Write learners/river_types.txt: the exact (module, name) pairs that River state may name.

Run after changing the pinned River, and read the diff::

    python scripts/river_types.py > learners/river_types.txt

Every class that River itself defines outside the packages that read files, networks or run other code, and the
few names of numpy and the standard library that trained estimators were seen to pickle.
"""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from types import ModuleType

import river

_LEFT_OUT = {"api", "datasets", "stream", "evaluate", "checks", "conftest", "test", "utils.inspect", "utils.pretty"}
_OUTSIDE = """
_random Random
functools partial
numbers Number
numpy array
numpy ones
numpy.random.bit_generator SeedSequence
numpy.random.bit_generator __pyx_unpickle_SeedSequence
statistics NormalDist
builtins bool
builtins bytearray
builtins complex
builtins frozenset
builtins getattr
builtins int
builtins iter
builtins float
builtins list
builtins dict
builtins object
builtins range
builtins set
builtins slice
builtins str
builtins tuple
collections Counter
collections OrderedDict
collections defaultdict
collections deque
copyreg _reconstructor
copy deepcopy
datetime date
datetime datetime
datetime timedelta
datetime timezone
numpy dtype
numpy float64
numpy int64
numpy ndarray
numpy._core.multiarray _reconstruct
numpy._core.multiarray scalar
numpy._core.numeric _frombuffer
numpy.random._generator Generator
numpy.random._mt19937 MT19937
numpy.random._pcg64 PCG64
numpy.random._pickle __bit_generator_ctor
numpy.random._pickle __generator_ctor
numpy.random._pickle __randomstate_ctor
numpy.random.mtrand RandomState
random Random
sortedcontainers.sortedlist SortedList
"""
# Functions and nested names of River itself that trained estimators pickle, each exact.
_NESTED = """
river._river_rust.stats RsEWMean
river._river_rust.stats RsEWVar
river._river_rust.stats RsIQR
river._river_rust.stats RsQuantile
river._river_rust.vectordict euclidean_distance_dict
river._river_rust.vectordict euclidean_distance_tuple
river.cluster.denstream DenStream.BufferItem
river.cluster.textclust TextClust.Distances
river.cluster.textclust TextClust.MicroCluster
river.feature_extraction.vectorize strip_accents_unicode
river.feature_extraction.vectorize tokenize_using_regex_pattern
river.forest.online_extra_trees ExtraTrees._detection_mode_all
river.naive_bayes.gaussian GaussianNB._make_gaussian
river.tree.splitter.ebst_splitter EBSTNode._update_estimator_univariate
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
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for module, name in sorted(pairs() | {tuple(line.split()) for line in (_OUTSIDE + _NESTED).split("\n") if line}):
        print(module, name)
