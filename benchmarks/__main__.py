"""`python -m benchmarks [NAME ...]`: run all benchmarks, or the named ones, one after another."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

NOT_BENCHMARKS = ("__main__", "result")


def names() -> list[str]:
    """Modules of this folder that have a `main`."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(
        m.name for m in found if m.name not in NOT_BENCHMARKS and not m.name.startswith("_")
    )


def main(wanted: list[str]) -> int:
    """Run them; 2 for an unknown name."""
    known = names()
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        print(f"no benchmark {unknown[0]}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in wanted or known:
        print(f"== {name}", file=sys.stderr)
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
