"""What does not belong on a topic, for the processes that read it. On real parts.

Poison on the commands of each component and on a region's own signals is kept and passed over;
poison among facts that a component reacts to causes nothing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from everlode.adapters.kafka import Raw
from everlode.avro.codec import Codec, encode_fact, encode_request
from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.barriers import Barrier
from everlode.events.base import Command, CommandAnswered, CommandHeader, Fact
from everlode.events.health import DetectorStarted
from everlode.events.validations import ValidationDecided
from everlode.topics.names import command_topic, dead_letter_topic, reply_topic
from tests.support.facts.poison import BYTES, KEYS, append, spoil
from tests.support.world.projecting import envelope, fact
from tests.support.world.region import Region, until

pytestmark = pytest.mark.timeout(180)
DYING = "tests.support.processes.dying_node"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMPONENTS: dict[str, tuple[str, Command]] = {
    "tasks": ("task-manager", c.CancelTask(reason="r")),
    "miners": ("miner-registry", c.DepositStake(amount_micro=1)),
    "validations": ("validator", c.DeferValidation(reason="r", deadline_at=NOW)),
    "rewards": ("reward-distributor", c.WithholdReward(case_id="c", reason="r")),
}


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("region")) as made:
        yield made


def letters(region: Region, consumer: str, topic: str, count: int) -> list[Raw]:
    """The dead letters, once there are `count`."""
    name = dead_letter_topic(consumer, topic)
    until(lambda: len(region.records(name, 1)) >= count, 30, f"{count} letters on {name}")
    found = region.records(name, 1)
    for letter in found:
        headers = dict(letter.headers)
        assert headers["dlt-topic"] == topic.encode()
        assert headers["dlt-consumer"] == consumer.encode()
        assert {"dlt-partition", "dlt-offset", "dlt-message"} <= headers.keys()
    return found


def codes(found: list[Raw]) -> list[str]:
    return [dict(raw.headers)["dlt-code"].decode() for raw in found]


def answered(region: Region) -> list[CommandAnswered]:
    """All answers, by partition."""
    codec = Codec()
    return [codec.decode_answer(raw.value) for raw in region.records(reply_topic("eu"))]


def barriers(region: Region) -> set[str]:
    """Coordinators that have published one, which takes one that leads."""
    codec = Codec()
    found = [codec.decode_fact(raw.value).data for raw in region.records("eu.1.receipts", 1)]
    return {data.writer_id for data in found if isinstance(data, Barrier)}


@pytest.mark.parametrize("component", COMPONENTS)
def test_poison_among_commands_is_kept_and_the_next_one_is_answered(
    region: Region, component: str
) -> None:
    kind, asked = COMPONENTS[component]
    node = region.leader(kind, component, f"eu-{component}")
    topic = command_topic("eu", component)
    header = CommandHeader(
        command_id="poison", aggregate_id="nobody", issued_by="c", reply_to=component,
        issued_at=NOW,
        correlation_id="c",
    )  # fmt: skip
    good = encode_request(header, asked)
    bad = [spoil(damage, "nobody", good) for damage in (*BYTES, *KEYS)]
    bad.append((b"nobody", encode_fact(*fact("miners", "nobody", 1, 1))))
    append(region.bootstrap, topic, bad)
    with region.client(f"client-{component}") as client:
        with pytest.raises(Refusal) as refused:  # decided, and answered: there is no such one
            client.call("nobody", asked)
        assert refused.value.code != "wrong_key"
    found = letters(region, "primary", topic, len(bad))
    assert [(raw.key, raw.value or b"") for raw in found] == [(k, v or b"") for k, v in bad]
    # of a command any key but the aggregate's is the same fault
    assert codes(found) == [*BYTES.values(), "wrong_key", "wrong_key", "not_a_command"]
    # whatever says who sent it was answered
    answers = [a for a in answered(region) if a.reply_to == component]
    wanted = ["broken", "unknown_schema", "wrong_key", "wrong_key"]
    assert [(a.command_id, a.outcome, a.code) for a in answers] == [
        ("poison", "refused", code) for code in wanted
    ]
    assert node.process.poll() is None
    node.kill()


def test_poison_among_signals_of_the_region_is_kept_by_its_coordinator(region: Region) -> None:
    node = region.coordinator("eu-co-1")
    node.ready()
    until(lambda: "eu-co-1" in barriers(region), 60, "it leads, and has read what was there before")
    head = envelope("tasks", "a", 0, 1)
    good = encode_fact(head, DetectorStarted(partition=0, from_offset=0))
    for component in ("health", "recovery"):
        topic = f"eu.1.{component}"
        bad = [spoil(damage, "a", good) for damage in (*BYTES, *KEYS)]
        bad.append((b"a", encode_fact(*fact("tasks", "a", 1, 1))))
        append(region.bootstrap, topic, bad)
        found = letters(region, "coordinator", topic, len(bad))
        assert [(raw.key, raw.value or b"") for raw in found] == [(k, v or b"") for k, v in bad]
        expected = [*BYTES.values(), *KEYS.values(), "wrong_topic"]
        if component == "recovery":  # a good record of health is a stray there anyway
            expected[-3:] = ["wrong_topic"] * 3
        assert codes(found) == expected
        assert node.reports("RecordLeftOut", topic=topic, partition=0)
    assert node.process.poll() is None
    node.kill()


def test_command_that_ends_validator_after_validator_is_set_aside_and_the_rest_goes_on(
    region: Region,
) -> None:
    """Two processes end with it in hand; the third keeps it, names both, and serves."""
    topic = command_topic("eu", "validations")
    before = len(region.records(dead_letter_topic("primary", topic), 1))
    asked = c.DeferValidation(reason="r", deadline_at=NOW)
    nodes = []
    for number in (1, 2, 3):
        nodes.append(region.node("validator", f"eu-val-{number}", module=DYING, die="poison"))
        nodes[-1].ready()
    with region.client("client-poison") as client:
        waiting, epochs = None, []
        for node, name in zip(nodes, ("eu-val-1", "eu-val-2", "eu-val-3"), strict=True):
            epochs.append(region.assign("validations", name))
            if waiting is None:
                node.leads(epochs[0])
                waiting = client.send("eu/poison", asked, timeout_s=120)
            if name != "eu-val-3":
                assert node.process.wait(60) == -signal.SIGKILL, "vacuous: it lives"
        assert waiting is not None
        nodes[-1].leads(epochs[-1])
        answer = waiting.result(120)
        assert (answer.outcome, answer.code, answer.node_id) == ("refused", "set_aside", "eu-val-3")
        with pytest.raises(Refusal) as refused:  # decided as ever: there is no such one
            client.call("eu/other", asked)
        assert refused.value.code not in ("set_aside", "internal")
    kept = [dict(letter.headers) for letter in letters(region, "primary", topic, before + 1)]
    # who takes over reads what led to no fact once more: what others sent is kept again, too
    aside = [headers for headers in kept[before:] if headers["dlt-code"] == b"set_aside"]
    assert aside
    for headers in aside:  # the client has sent it again
        assert all(f"eu-val-{n} (".encode() in headers["dlt-message"] for n in (1, 2))
        assert b"eu-val-3" not in headers["dlt-message"]
    (ended,) = region.follower.state.blamed.values()
    assert [process.partition(" ")[0] for process in ended] == ["eu-val-1", "eu-val-2"]
    nodes[-1].kill()


def test_poison_among_facts_causes_nothing(region: Region) -> None:
    """A decision under another's key would be paid, had the reward service taken it."""
    kind, asked = COMPONENTS["rewards"]
    node = region.leader(kind, "rewards", "eu-rewards-2")
    data = ValidationDecided(
        task_id="t", task_type="inference", solution_id="s", miner_id="m", kind="automatic",
        accepted=True, score_ppm=1_000_000, votes_for=1, votes_against=0, work_ms=1,
        base_reward_micro=100,
    )  # fmt: skip
    good = encode_fact(*Fact(envelope("validations", "v", 1, 1), data))
    bad = [spoil(damage, "v", good) for damage in (*BYTES, *KEYS)]
    append(region.bootstrap, "eu.1.validations", bad)
    with region.client("client-facts") as client, pytest.raises(Refusal):
        client.call("nobody", asked)
    time.sleep(1)
    assert [f for f in region.facts("rewards") if f.envelope.version] == []
    append(region.bootstrap, "eu.1.validations", [(b"v", good)])  # the real one is paid
    until(lambda: any(f.envelope.version for f in region.facts("rewards")), 30, "a reward for it")
    node.kill()


def test_secondary_that_finds_poison_in_its_own_facts_ends_and_names_the_place(
    region: Region,
) -> None:
    """Last: these facts are damaged from now on, and nobody may lead them."""
    node = region.node("miner-registry", "eu-miners-2")
    node.ready()
    last = len(region.records("eu.1.miners"))
    append(region.bootstrap, "eu.1.miners", [spoil("random_bytes", "a", b"")], 1)
    until(lambda: len(region.records("eu.1.miners")) == last + 1, 20, "it is there")
    assert node.process.wait(40) == 13
    assert node.reports("ProcessFailed", code="foreign_record", text="eu.1.miners/1@")
    assert node.reports("ProcessFailed", text="find out who")
