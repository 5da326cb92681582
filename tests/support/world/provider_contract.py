"""What every stack provider must do that starts what it gives."""

from __future__ import annotations

import psycopg
import pytest

from everlode.errors import EverlodeError, Locked, NotFound
from everlode.settings.endpoints import Endpoints
from everlode.stack.condition import asks_of
from everlode.stack.doctor import examine
from everlode.stack.provider import StackProvider
from tests.support.world.region import until

VERBS = ("kill", "pause", "resume", "stop", "restart", "wipe")
FORMER = "former"


def endpoints_of(stack: StackProvider) -> Endpoints:
    assert stack.endpoints is not None
    return stack.endpoints


def serves(stack: StackProvider, part: str) -> bool:
    """Whether a part answers now."""
    try:
        asks_of(endpoints_of(stack))[part]()
    except (EverlodeError, OSError):
        return False
    return True


def tables(stack: StackProvider) -> set[str]:
    """Tables of ours in region eu's database."""
    conninfo = endpoints_of(stack).regions["eu"].postgres_conninfo()
    with psycopg.connect(conninfo, connect_timeout=10) as db:
        rows = db.execute("select tablename from pg_tables where schemaname = 'public'")
        return {str(name) for (name,) in rows}


def make_table(stack: StackProvider) -> None:
    conninfo = endpoints_of(stack).regions["eu"].postgres_conninfo()
    with psycopg.connect(conninfo, connect_timeout=10) as db:
        db.execute(f"create table if not exists public.{FORMER} (x int)")


class ProviderContract:
    """One suite; a subclass gives `stack`: region eu, up, without mirrors, and `another`."""

    def another(self, stack: StackProvider) -> StackProvider:
        """A provider of the same kind in the same folder."""
        raise NotImplementedError

    def test_up_gives_where_every_part_answers(self, stack: StackProvider) -> None:
        asks = asks_of(endpoints_of(stack))
        assert {"eu/kafka", "eu/postgres", "control/1"} <= set(asks)
        for ask in asks.values():
            ask()

    def test_topics_are_those_of_the_catalogue(self, stack: StackProvider) -> None:
        found = examine(stack.topology, endpoints_of(stack))
        assert found.drifts == ()
        assert found.unreachable == {}
        assert found.topics_checked > 20

    def test_everything_listens_on_the_loopback(self, stack: StackProvider) -> None:
        found = endpoints_of(stack)
        places = [found.regions["eu"].kafka_bootstrap, *found.control().split(",")]
        places.append(found.regions["eu"].postgres_dsn.partition("@")[2])
        assert [place for place in places if not place.startswith("127.0.0.1:")] == []

    def test_processes_are_listed_by_name_and_kind(self, stack: StackProvider) -> None:
        found = stack.processes()
        assert [one.name for one in found] == sorted(one.name for one in found)
        kinds = {one.name: one.kind for one in found}
        wanted = {"eu/kafka": "kafka", "eu/postgres": "postgres", "control/1": "control"}
        assert wanted.items() <= kinds.items()
        assert all(one.pid and one.exit_status is None for one in found)
        assert all(one.resident_bytes > 1_000_000 for one in found)

    @pytest.mark.parametrize("verb", VERBS)
    def test_unknown_part_is_named_with_those_that_there_are(
        self, stack: StackProvider, verb: str
    ) -> None:
        with pytest.raises(NotFound, match="eu/nothing") as caught:
            getattr(stack, verb)("eu/nothing")
        assert "eu/kafka" in caught.value.hint

    def test_killed_part_stays_down_until_it_is_restarted_with_its_data(
        self, stack: StackProvider
    ) -> None:
        make_table(stack)
        stack.kill("eu/postgres")
        until(lambda: not serves(stack, "eu/postgres"), 10, "it is gone")
        status = {one.name: one.exit_status for one in stack.processes()}["eu/postgres"]
        assert status in (-9, 137)
        stack.restart("eu/postgres")
        assert serves(stack, "eu/postgres")
        assert FORMER in tables(stack)

    def test_paused_part_runs_and_is_silent_until_it_is_resumed(self, stack: StackProvider) -> None:
        stack.pause("eu/kafka")
        try:
            assert not serves(stack, "eu/kafka")
            found = {one.name: one for one in stack.processes()}["eu/kafka"]
            assert found.pid is not None
        finally:
            stack.resume("eu/kafka")
        until(lambda: serves(stack, "eu/kafka"), 30, "it answers")

    def test_stopped_part_serves_after_a_restart(self, stack: StackProvider) -> None:
        stack.stop("control/1")
        assert not serves(stack, "control/1")
        stack.restart("control/1")
        assert serves(stack, "control/1")

    def test_second_up_in_the_folder_is_refused(self, stack: StackProvider) -> None:
        with pytest.raises(Locked, match="runs in"):
            self.another(stack).up()
        assert serves(stack, "eu/postgres"), "the first one is as it was"

    def test_wiped_part_has_lost_its_data(self, stack: StackProvider) -> None:
        make_table(stack)
        stack.wipe("eu/postgres")
        stack.restart("eu/postgres")
        assert FORMER not in tables(stack)

    def test_down_ends_all_and_the_next_up_finds_the_data(self, stack: StackProvider) -> None:
        make_table(stack)
        before = endpoints_of(stack)
        asks = asks_of(before)
        stack.down()
        stack.down()  # a second time is no error
        assert stack.endpoints is None or stack.processes() == []
        for ask in asks.values():
            with pytest.raises((EverlodeError, OSError)):
                ask()
        assert stack.up() == before, "ports are kept"
        assert FORMER in tables(stack)
