"""The order of the demo's steps, and what is left behind, whatever happens; without real parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everlode.demo.only_one import FOLDER, RUNNING, only_one, remove_killed
from everlode.demo.options import MOMENTS, Options
from everlode.demo.run import Demo
from everlode.errors import Unavailable


class Rehearsal(Demo):
    """The demo with steps that only note that they were taken."""

    def __init__(self, folder: Path, kill_at: str = "mid-run", keep: bool = False) -> None:
        super().__init__(Options(None, 1, 1.0, 0.02, kill_at, keep))
        self.root = folder / "run"
        self._plan = self._plan.model_copy(
            update={"root": self.root, "stack_dir": self.root / "stack"}
        )
        self.steps: list[str] = []
        self.fails_at = ""
        self.error: BaseException = Unavailable("a part died")
        self.wrong: list[str] = []

    def _note(self, step: str) -> Any:
        self.steps.append(step)
        if step == self.fails_at:
            raise self.error
        (self.root / step.replace("/", "-")).touch()

    def _up(self) -> Any:
        (self._plan.stack_dir / "data").mkdir(parents=True)
        return self._note("up")

    def _work(self, endpoints: Any) -> None:
        self._note("work")

    def _start_actors(self) -> None:
        self._note("actors")

    def _kill(self) -> None:
        self._note("kill")

    def _await_share(self, share: float, or_until: Callable[[], bool] = lambda: False) -> None:
        self._note(f"{share:g}")

    def _backup(self, endpoints: Any) -> Any:
        return self._note("backup")

    def _disaster(self, endpoints: Any) -> None:
        self._note("disaster")

    def _recover(self, endpoints: Any) -> Any:
        return self._note("recover")

    def _prove(self, endpoints: Any, manifest: Any, recovery: Any) -> dict[str, Any]:
        self._note("prove")
        return {"failures": self.wrong}


class Swept(Rehearsal):
    """While it works another demo starts, that looks for the user's lock elsewhere."""

    killed: Path

    def _work(self, endpoints: Any) -> None:
        assert not self.killed.exists(), "it was removed when this one began"
        remove_killed()
        super()._work(endpoints)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No lock of the user's own demo is touched, and no folder of one."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_steps_come_in_order_with_the_kill_at_its_moment(tmp_path: Path, moment: str) -> None:
    demo = Rehearsal(tmp_path, moment)
    demo.run()
    parts = [s for s in demo.steps if not s[0].isdigit() and s != "kill"]
    assert parts == ["up", "work", "actors", "backup", "disaster", "recover", "prove"]
    at = demo.steps.index("kill") if "kill" in demo.steps else None
    if moment == "before-first-assignment":
        assert at == demo.steps.index("actors") - 1
    elif moment == "mid-run":
        assert at is not None
        assert demo.steps.index("actors") < at < demo.steps.index("backup")
    else:  # the real backup and recovery steps do it
        assert at is None


def test_proved_run_leaves_nothing_and_an_unproved_one_its_logs(tmp_path: Path) -> None:
    good = Rehearsal(tmp_path)
    good.run()
    assert not good.root.exists()
    bad = Rehearsal(tmp_path)
    bad.wrong = ["reward t|m: paid twice"]
    bad.run()
    assert bad.root.exists()
    assert not bad._plan.stack_dir.exists()


def test_run_removes_what_a_killed_one_left_and_holds_its_own(
    tmp_path: Path, temporary: Path
) -> None:
    killed = temporary / f"{FOLDER}killed"
    killed.mkdir()
    (killed / RUNNING).touch()
    demo = Swept(temporary)
    demo.root, demo.killed = temporary / f"{FOLDER}new", killed
    demo.run()
    assert demo.steps[-1] == "prove"


def test_kept_run_leaves_everything(tmp_path: Path) -> None:
    demo = Rehearsal(tmp_path, keep=True)
    demo.run()
    assert demo.root.exists()
    assert demo._plan.stack_dir.exists()


@pytest.mark.parametrize("step", ["up", "work", "backup", "recover", "prove"])
@pytest.mark.parametrize("error", [Unavailable("a part died"), KeyboardInterrupt()])
def test_step_that_fails_ends_the_run_and_frees_the_lock(
    tmp_path: Path, step: str, error: BaseException
) -> None:
    demo = Rehearsal(tmp_path)
    demo.fails_at, demo.error = step, error
    with pytest.raises(type(error)):
        demo.run()
    assert demo.steps[-1] == step
    assert demo.root.exists()
    assert not demo._plan.stack_dir.exists()
    only_one().close()
