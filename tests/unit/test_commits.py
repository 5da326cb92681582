"""Commits say what they did in one line, and why below it.

`area: what` in at most 72 characters, an empty line, and a body wrapped at 100. Where there is no
history (an archive of the sources), the checker is still held to its samples; where there is only
a part of it (a shallow clone), that part is checked.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEGIN, BEGAN = "a0cd9892bcc4f6920871e3e489a41c2be8737ca2", "2026-11-25T18:50:45+00:00"
"""The last commit that the rule is too late for, and the second after it."""
SUBJECT, WIDTH = 72, 100
AREA = re.compile(r"[a-z][a-z0-9_./-]*(, [a-z][a-z0-9_./-]*)*: \S.*[^.\s]")
TRAILER = re.compile(r"[A-Z][A-Za-z-]+: .+|\(cherry picked from commit [0-9a-f]+\)")

GOOD = """backup, recovery: a cut is taken from the log

The state topic was read to its end, so that a slow compaction held up every
backup. The log has the same and is bounded.

Co-authored-by: Someone <someone@example.org>
"""
BAD = {
    "no area": ("Cut is taken from the log\n\nBecause.", "area: what"),
    "area in capitals": ("Backup: cut from the log\n\nBecause.", "area: what"),
    "nothing after the area": ("backup: \n\nBecause.", "area: what"),
    "full stop": ("backup: a cut is taken from the log.\n\nBecause.", "area: what"),
    "long subject": (f"backup: {'x' * 65}\n\nBecause.", "73 characters"),
    "no body": ("backup: a cut is taken from the log\n", "why"),
    "trailers only": ("backup: cut from the log\n\nCo-authored-by: A <a@example.org>", "why"),
    "subject runs on": ("backup: a cut is\ntaken from the log\n\nBecause.", "line 2"),
    "wide body": (f"backup: cut from the log\n\n{'word ' * 20}words\n", "line 3"),
}


def problems(message: str) -> list[str]:
    """What is wrong with a commit's message, in words; empty when nothing is."""
    subject, *rest = message.rstrip().splitlines() or [""]
    found = []
    if len(subject) > SUBJECT:
        found.append(f"the subject has {len(subject)} characters, at most {SUBJECT} are allowed")
    if not AREA.fullmatch(subject):
        found.append("the subject is not of the form `area: what`, without a full stop")
    if rest and rest[0]:
        found.append("line 2 is not empty")
    if not any(line and not TRAILER.fullmatch(line) for line in rest):
        found.append("no body says why")
    found += [
        f"line {number} has {len(line)} characters, at most {WIDTH} are allowed"
        for number, line in enumerate(rest, 2)
        if len(line) > WIDTH and " " in line.strip()  # an address cannot be wrapped
    ]
    return found


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # another user's checkout, as a container mounts it, is read all the same
    command = ["git", "-c", f"safe.directory={folder}", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def messages(folder: Path = ROOT) -> dict[str, str]:
    """Hash → message of the commits since the rule; the good sample where there is no history."""
    if not (folder / ".git").exists() or shutil.which("git") is None:
        return {"sample": GOOD}
    whole = git(folder, "cat-file", "-e", f"{BEGIN}^{{commit}}").returncode == 0
    since = [f"^{BEGIN}"] if whole else [f"--since={BEGAN}"]
    listed = git(folder, "log", "--no-merges", "--format=%h%n%B%x00", "HEAD", *since)
    assert listed.returncode == 0, listed.stderr
    entries = (entry.strip() for entry in listed.stdout.split("\0"))
    return {commit: message for commit, _, message in (e.partition("\n") for e in entries if e)}


def test_commits_say_what_and_why() -> None:
    wrong = {commit: problems(message) for commit, message in messages().items()}
    assert {commit: found for commit, found in wrong.items() if found} == {}


def test_good_message_passes() -> None:
    assert problems(GOOD) == []
    assert problems(f"docs: where the format is from\n\nSee\nhttps://example.org/{'x' * 100}") == []


@pytest.mark.parametrize("kind", sorted(BAD))
def test_bad_message_is_refused_with_its_reason(kind: str) -> None:
    message, reason = BAD[kind]
    assert any(reason in text for text in problems(message)), problems(message)


def test_archive_has_the_sample_and_a_shallow_clone_its_part(tmp_path: Path) -> None:
    assert messages(tmp_path) == {"sample": GOOD}
    if shutil.which("git") is None:
        return
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    git(tmp_path, "init", "-q", str(origin))
    for n in range(3):
        text = f"docs: commit {n}\n\nFor the test."
        done = git(origin, *author, "commit", "-q", "--allow-empty", "-m", text)
        assert done.returncode == 0, done.stderr
    git(tmp_path, "clone", "-q", "--depth=2", origin.as_uri(), str(clone))
    found = messages(clone)
    assert [problems(message) for message in found.values()] == [[], []]
