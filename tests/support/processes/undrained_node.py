"""A node that never says what it has committed, however long it is frozen.

`python -m tests.support.processes.undrained_node node run ...`.
"""

from __future__ import annotations

from everlode.cli.main import main
from everlode.primary.freeze import Freeze


def plant() -> None:
    """Plant the silence."""
    Freeze._drained = lambda *_: None  # type: ignore[method-assign]


if __name__ == "__main__":
    plant()
    main()
