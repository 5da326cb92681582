"""promtool, which checks Prometheus's rules: on the PATH, or out of Debian's package of it.

The package is unpacked into the cache and not installed: installed it would start a server.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.processes.languages import CACHE, done

UNPACKED = CACHE / "promtool"


def promtool(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it in a folder, and give how it ended."""
    found = shutil.which("promtool") or _unpacked()
    return subprocess.run(
        [found, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def _unpacked() -> str:
    program = UNPACKED / "usr/bin/promtool"
    if not program.exists():
        assert shutil.which("apt-get"), "promtool is not installed: it comes with Prometheus"
        with tempfile.TemporaryDirectory() as made:
            place = Path(made)
            done(["apt-get", "download", "--quiet", "prometheus"], place)
            (package,) = place.glob("prometheus_*.deb")
            done(["dpkg-deb", "--extract", package, place / "unpacked"], place)
            UNPACKED.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(UNPACKED, ignore_errors=True)
            shutil.move(place / "unpacked", UNPACKED)
    return str(program)
