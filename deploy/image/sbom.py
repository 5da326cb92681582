"""Prints what the image consists of, as CycloneDX 1.5 JSON: every Python package, and the packages
of the system that the collected files come from, where the system says so.

    python3 sbom.py > sbom.cdx.json
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path("/rootfs")


def python_packages() -> list[dict[str, object]]:
    """Installed distributions, by name."""
    found = {}
    for one in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower()
        row: dict[str, object] = {
            "type": "library", "name": name, "version": one.version,
            "purl": f"pkg:pypi/{name}@{one.version}",
        }  # fmt: skip
        if "License-Expression" in one.metadata:
            row["licenses"] = [{"expression": one.metadata["License-Expression"]}]
        found[name] = row
    return [found[name] for name in sorted(found)]


def system_packages() -> list[dict[str, str]]:
    """Debian packages with a file in the image; none where dpkg does not know."""
    files = [f"/{p.relative_to(ROOT)}" for p in ROOT.rglob("*") if p.is_file()]
    system = [name for name in files if not name.startswith("/opt/everlode")]
    # /lib is a link to /usr/lib where the system is merged, and dpkg knows either name
    asked = system + [re.sub("^/usr(?=/lib)", "", name) for name in system]
    try:
        owners = subprocess.run(
            ["dpkg", "-S", *asked], capture_output=True, text=True, check=False
        ).stdout
    except FileNotFoundError:
        return []
    names = sorted({line.split(":")[0] for line in owners.splitlines() if ": /" in line})
    rows = []
    for name in names:
        shown = subprocess.run(
            ["dpkg-query", "-W", "-f=${Version}", name], capture_output=True, text=True, check=False
        )
        version = shown.stdout.strip()
        purl = f"pkg:deb/debian/{name}@{version}"
        rows.append({"type": "library", "name": name, "version": version, "purl": purl})
    return rows


def main() -> None:
    """To standard output."""
    version = metadata.version("everlode")
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "component": {"type": "container", "name": "everlode", "version": version},
            "tools": {"components": [{"type": "application", "name": "deploy/image/sbom.py"}]},
        },
        "components": [
            {"type": "platform", "name": "cpython", "version": sys.version.split()[0]},
            *python_packages(), *system_packages(),
        ],
    }  # fmt: skip
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
