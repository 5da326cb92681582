"""A detached stack heals itself: its parts, the region's own processes, and its supervisor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.errors import Locked, NotFound, Unavailable
from everlode.events.commands import DepositStake
from everlode.events.recovery import HealingStarted, HealingSucceeded
from everlode.sdk import MiningClient
from everlode.settings.endpoints import Endpoints
from everlode.stack.book import read_book
from everlode.stack.condition import look
from everlode.stack.native.bounded import older_of
from everlode.stack.native.detach import start_detached, stop_detached
from everlode.stack.native.lock import holder, read_record
from everlode.stack.native.supervisor import build, save_options
from everlode.topics.names import fact_topic
from tests.support.facts.whole_topic import records
from tests.support.processes.entries import entries, matching
from tests.support.processes.scraping import figures_of, scrape, targets
from tests.support.world.region import TOPOLOGY, until

pytestmark = pytest.mark.timeout(240)
SERVICES = {"coordinator": 1, "projector": 1, "miner-registry": 1}


class Healing:
    """A detached stack with a coordinator, a projector and a registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        save_options(
            folder, TOPOLOGY, mirrors=False, control_nodes=1, s3=None, services=SERVICES
        )  # fmt: skip
        self.endpoints = start_detached(folder, {}, 90.0)

    def pid(self, name: str) -> int:
        """Of a process that runs."""
        return next(p.pid for p in read_record(self.folder) if p.name == name and p.alive)

    def pids(self) -> dict[str, int]:
        return {p.name: p.pid for p in read_record(self.folder) if p.alive}

    def restarts(self, name: str) -> int:
        row = read_book(self.folder).get(name)
        return 0 if row is None else row.restarts

    def healed(self, name: str, restarts: int) -> None:
        """Wait until a process was started again so often, and everything serves."""
        until(
            lambda: (
                self.restarts(name) >= restarts
                and not read_book(self.folder)[name].lost_at_s
                and look(self.folder).as_asked
            ),
            90,
            f"{name} is healed: {look(self.folder)}",
        )

    def register(self, miner: str) -> None:
        """A miner that the registry has accepted, and that the projection shows."""
        with MiningClient(self.endpoints, region="eu", client_id=miner) as client:
            answer = client.register_miner(["inference"], endpoint="10.0.0.7:9000")
        assert answer.outcome == "done"
        until(lambda: self.shown(miner), 60, f"{miner} is in the projection")

    def shown(self, miner: str) -> bool:
        conninfo = self.endpoints.regions["eu"].postgres_conninfo()
        try:
            with closing(Generation.current(conninfo)) as db:
                return bool(db.query(f"select 1 from {{g}}.miners where key = 'eu/{miner}'"))
        except (NotFound, Unavailable):
            return False


@pytest.fixture(scope="module")
def healing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Healing]:
    folder = tmp_path_factory.mktemp("healing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERLODE_METRICS_DIR", str(folder / "metrics"))
        patch.setenv("EVERLODE_LOG_MIB", "1")
        try:
            yield Healing(folder)
        finally:
            stop_detached(folder, 60.0)


def test_broker_that_stands_still_for_long_leaves_a_region_that_goes_on(healing: Healing) -> None:
    """Whoever was in the midst of a transaction ends and is started again; nobody else does."""
    healing.register("miner-1")
    broker = healing.pid("eu/kafka")
    with MiningClient(healing.endpoints, region="eu", client_id="miner-1", timeout_s=120) as client:
        during = [client.send("eu/miner-1", DepositStake(amount_micro=n + 1)) for n in range(50)]
        os.kill(broker, signal.SIGSTOP)
        try:
            time.sleep(20)  # the time that it stands, longer than any transaction may be open
            bitten = [one for one in during if not one.done()]
        finally:
            os.kill(broker, signal.SIGCONT)
        assert bitten, "vacuous: all was answered before the broker stood"
        assert {one.result(120).outcome for one in during} <= {"done", "repeated"}
    until(lambda: look(healing.folder).as_asked, 90, "everything serves")
    assert healing.pid("eu/kafka") == broker
    healing.register("miner-2")


def test_log_that_is_full_is_cut_while_its_process_writes_on(healing: Healing) -> None:
    log = healing.folder / "logs" / "supervisor.log"
    with log.open("a") as full:
        full.write("line of the test\n" * 2**16)
    until(lambda: log.stat().st_size < 2**20, 30, "it is cut")
    assert older_of(log).read_text().endswith("line of the test\n")
    count = healing.restarts("eu/mr-1")
    os.kill(healing.pid("eu/mr-1"), signal.SIGKILL)
    healing.healed("eu/mr-1", count + 1)
    written = log.read_text()
    assert "\0" not in written
    assert matching(entries(log), "Note", text="eu/mr-1 has ended")
    assert written.startswith("{"), written[:80]


def test_killed_parts_and_processes_are_started_again_and_that_is_published(
    healing: Healing,
) -> None:
    killed = ("eu/kafka", "eu/postgres", "eu/mr-1", "eu/proj-1", "control/1")
    before = {name: healing.restarts(name) for name in killed}
    for name in killed:
        os.kill(healing.pid(name), signal.SIGKILL)
    for name in killed:
        healing.healed(name, before[name] + 1)
    supervisor = targets(healing.folder / "metrics")["supervisor"]
    counted = figures_of(scrape(supervisor))
    for name in killed:
        kind = read_book(healing.folder)[name].kind
        assert counted["everlode_stack_process_up", (kind, name)] == 1
        assert counted["everlode_stack_process_given_up", (kind, name)] == 0
        restarts = counted["everlode_stack_process_restarts_total", (kind, name)]
        assert restarts == healing.restarts(name) > before[name]
    healing.register("miner-3")
    published: set[tuple[str, str]] = set()
    wanted = {(kind, name) for kind in ("HealingStarted", "HealingSucceeded") for name in killed}

    def all_published() -> bool:
        codec = Codec()
        place = healing.endpoints.regions["eu"].kafka_bootstrap
        for raw in records(place, fact_topic("eu.1", "recovery"), 1):
            data = codec.decode_fact(raw.value).data
            if isinstance(data, HealingStarted | HealingSucceeded):
                published.add((type(data).__name__, data.process))
        return wanted <= published

    until(all_published, 60, f"published: {published}")


def test_supervisor_killed_leaves_all_running_and_its_guard_starts_one_that_takes_over(
    healing: Healing,
) -> None:
    before, first = healing.pids(), holder(healing.folder)
    assert first is not None
    with pytest.raises(Locked, match=f"pid {first}"):  # a second one is refused by name
        start_detached(healing.folder, {}, 30.0)
    os.kill(first, signal.SIGKILL)
    until(lambda: holder(healing.folder) not in (None, first), 60, "another one takes over")
    until(lambda: look(healing.folder).as_asked, 60, "everything serves")
    assert healing.pids() == before
    guard = healing.pid("guard")
    os.kill(guard, signal.SIGKILL)  # and the other way round
    until(lambda: healing.pids().get("guard") not in (None, guard), 60, "a guard is started")
    registry = healing.pid("eu/mr-1")
    count = healing.restarts("eu/mr-1")
    os.kill(registry, signal.SIGKILL)  # one that it has adopted
    healing.healed("eu/mr-1", count + 1)


def test_supervisor_and_guard_killed_together_up_takes_over_and_down_ends_everything(
    healing: Healing,
) -> None:
    def both() -> None:
        supervisor = holder(healing.folder)
        assert supervisor is not None
        for pid in (healing.pid("guard"), supervisor):
            os.kill(pid, signal.SIGKILL)
        until(lambda: holder(healing.folder) is None, 20, "nobody holds the stack")

    before = {name: pid for name, pid in healing.pids().items() if name != "guard"}
    both()
    found = look(healing.folder)
    assert (found.state, found.why) == ("degraded", "its holder is gone, parts of it still run")
    assert start_detached(healing.folder, {}, 90.0) == Endpoints.load(healing.folder)
    assert before.items() <= healing.pids().items()
    both()
    left = list(healing.pids().values())
    assert stop_detached(healing.folder, 60.0) is not None
    assert not [pid for pid in left if psutil.pid_exists(pid) and not zombie(pid)]
    assert look(healing.folder).state == "stopped"


def zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def test_supervisor_of_a_stack_that_was_stopped_starts_it_anew(healing: Healing) -> None:
    stack = build(healing.folder, {}, outlives=True)
    with pytest.raises(Exception, match="nothing of this stack runs"):
        stack.adopt()
    assert holder(healing.folder) is None
