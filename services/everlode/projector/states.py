"""What is known of a partition number's aggregates: from memory, else from PostgreSQL. Shell."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from everlode.projection.fold import Key, Known

CACHED = 60_000
"""States kept in memory, a partition number."""
Load = Callable[[set[Key]], dict[Key, Known]]
"""What is known of these aggregates, of each of them."""


class Loaded(dict[Key, Known]):
    """What a batch needs; the fold brings it up to date.

    A state that was not asked for before is loaded when it is met, by a query of its own.
    """

    def __init__(self, load: Load, keys: set[Key]) -> None:
        self._load = load
        self.before = load(keys)
        """As loaded."""
        super().__init__(self.before)

    def __missing__(self, key: Key) -> Known:
        """See dict."""
        found = self[key] = self.before[key] = self._load({key})[key]
        return found


class States:
    """The states used last. Not thread-safe."""

    def __init__(self, load: Load) -> None:
        """`load` reads them where they are written."""
        self._load = load
        self._cache: OrderedDict[Key, Known] = OrderedDict()

    def of(self, keys: set[Key]) -> Loaded:
        """What is known of these, for one batch. Raises: Unavailable."""
        return Loaded(self._known, keys)

    def keep(self, known: Loaded) -> None:
        """Remember what a batch, now written, has made of them."""
        for key, value in known.items():
            self._cache[key] = value
            self._cache.move_to_end(key)
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    def _known(self, keys: set[Key]) -> dict[Key, Known]:
        found = {key: self._cache[key] for key in keys if key in self._cache}
        missing = keys - found.keys()
        if missing:
            found.update(self._load(missing))
        return found
