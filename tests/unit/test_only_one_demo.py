"""One demo at a time; the next removes what killed ones left, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from everlode.demo.only_one import FOLDER, RUNNING, SOCKETS, STACK, hold, only_one, remove_killed
from everlode.errors import Locked
from everlode.stack.native.lock import Recorded, write_record

HOLDER = """
import sys, time
from pathlib import Path
from everlode.demo.only_one import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder as a demo does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def made(folder: Path, name: str) -> Path:
    """A demo's folder with data in it."""
    (folder / name / STACK / "data").mkdir(parents=True)
    return folder / name


def test_second_demo_is_refused_and_names_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with only_one():
        with pytest.raises(Locked, match=f"process {os.getpid()}") as caught:
            only_one()
        assert caught.value.exit_code == 11
    only_one().close()


def test_folder_is_removed_once_the_process_that_holds_it_was_killed(temporary: Path) -> None:
    folder = made(temporary, f"{FOLDER}killed")
    sockets = made(temporary, "pymp-12345678")
    (folder / SOCKETS).symlink_to(sockets)
    with another(folder) as demo:
        remove_killed()
        assert folder.exists(), "it lives"
        assert sockets.exists(), "it lives"
        demo.kill()
        demo.wait(10)
        remove_killed()
    assert [*temporary.iterdir()] == []


def test_demo_that_ended_by_itself_and_what_is_no_demo_stay(temporary: Path) -> None:
    ended = made(temporary, f"{FOLDER}ended")
    with hold(ended):
        pass
    (made(temporary, "other") / RUNNING).touch()
    remove_killed()
    assert sorted(p.name for p in temporary.iterdir()) == [ended.name, "other"]


def test_folder_stays_while_a_part_of_its_stack_lives(temporary: Path) -> None:
    folder = made(temporary, f"{FOLDER}dying")
    (folder / RUNNING).touch()
    with another(made(temporary, "part")) as part:
        created = psutil.Process(part.pid).create_time()
        write_record(folder / STACK, [Recorded("eu/kafka", "kafka", part.pid, created)])
        remove_killed()
        assert folder.exists()
    remove_killed()
    assert not folder.exists()


def test_what_is_of_another_user_or_only_bears_the_name_is_left_alone(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made(temporary, "target") / RUNNING).touch()
    (temporary / f"{FOLDER}link").symlink_to("target")
    os.mkfifo(made(temporary, f"{FOLDER}pipe") / RUNNING)  # one that waited would never come back
    (made(temporary, f"{FOLDER}far") / RUNNING).symlink_to(temporary / "target" / RUNNING)
    theirs = made(temporary, f"{FOLDER}theirs")
    (theirs / RUNNING).touch()
    another_user = os.getuid() + 1
    with monkeypatch.context() as patch:
        patch.setattr("os.getuid", lambda: another_user)
        remove_killed()
    assert theirs.exists()
    remove_killed()
    left = {p.name for p in temporary.iterdir()}
    assert left == {"target", f"{FOLDER}link", f"{FOLDER}far"}
    assert (temporary / "target" / STACK / "data").exists()
