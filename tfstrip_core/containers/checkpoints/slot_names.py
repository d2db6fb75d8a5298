"""How the optimizers of TensorFlow 1 name what they keep: <scope>/<variable>/<optimizer's name>, _1, _2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# The names that optimizers have unless the user gives another, and the numbers of slots that each keeps of a variable.
SLOTS: Mapping[str, tuple[int, ...]] = {
    "Adam": (2,), "AdamW": (2,), "AdaMax": (2,), "Adagrad": (1,), "Momentum": (1,), "RMSProp": (2, 3), "Ftrl": (2,),
    "Adadelta": (2,), "ProximalAdagrad": (1,),
}  # fmt: skip
WITH_POWERS = frozenset({"Adam", "AdamW", "AdaMax"})
AVERAGE = re.compile(r"ExponentialMovingAverage(_\d+)?")
BETA_POWER = re.compile(r"beta[12]_power(_\d+)?")
# An estimator's parts: the key has `t_0` where the graph's variable has `part_0`.
_PART = re.compile(r"(t|part)_\d+/")
_NUMBER = re.compile(r"_[1-9]\d{0,3}$")


def base_of(suffix: str) -> str:
    """Return a slot's name without the number that tells an optimizer's slots apart."""
    return _NUMBER.sub("", suffix)


def number_of(suffix: str) -> int:
    """Return the number that tells an optimizer's slots apart: 0 for the first, which has none."""
    match = _NUMBER.search(suffix)
    return int(match[0][1:]) if match else 0


def known(suffix: str) -> bool:
    """Return whether an optimizer calls its slots so unless told otherwise."""
    return base_of(suffix) in SLOTS


def any_power(keys: Iterable[str]) -> bool:
    """Return whether there are powers of beta among the keys, without which no Adam is saved."""
    return any(BETA_POWER.fullmatch(key.rpartition("/")[2]) for key in keys)


def beneath(key: str, primary: str) -> bool:
    """Return whether `key` is called [scope/]primary/slot."""
    return f"/{primary}/" in f"/{key}"


def relation(key: str, primary: str) -> tuple[str, str]:
    """Return what stands before and behind the key `primary` in `key`; if it is not there, all and the last part."""
    before, found, suffix = f"/{key}".rpartition(f"/{primary}/")
    if not found:
        scope, _, last = key.rpartition("/")
        return scope, last
    return before.removeprefix("/"), _PART.sub("", suffix, count=1) if _PART.match(suffix) else suffix
