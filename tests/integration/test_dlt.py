"""Dead letters: listed with their provenance, put back once, discarded for a reason, never lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from everlode.adapters.clock import WallClock
from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_sender import Sender
from everlode.avro.codec import Codec
from everlode.cli.main import run
from everlode.errors import ContractError, Locked
from everlode.events import commands as c
from everlode.events.miners import StakeDeposited
from everlode.events.recovery import DeadLetterDiscarded, DeadLetterReplayed
from everlode.log import letters
from everlode.log.fates import Wish
from everlode.log.letters import Decider
from everlode.topics.names import command_topic, dead_letter_topic, fact_topic
from tests.support.processes.flawed_node import FLAWED_MICRO
from tests.support.processes.outputs import misfits
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(180)
COMMANDS, FACTS = command_topic("eu", "miners"), fact_topic("eu.1", "miners")
LETTERS = dead_letter_topic("primary", COMMANDS)
RECOVERY = fact_topic("eu.1", "recovery")
CODEC = Codec()


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("dlt")) as made:
        yield made


def dlt(
    region: Region, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0
) -> dict[str, Any]:
    """What a verb prints as JSON."""
    capsys.readouterr()
    assert run(["dlt", *words, "--dir", str(region.folder / "stack"), "--json"]) == code
    printed = capsys.readouterr().out
    assert misfits(f"dlt {words[0]}", printed) == []
    found: dict[str, Any] = json.loads(printed)
    return found


def keep(region: Region, consumer: str, raw: Raw, code: str = "broken") -> str:
    """Write the letter of a record, as a consumer does; its id."""
    kept = DeadLetters(Sender(region.bootstrap), consumer)
    kept.add(raw, ContractError("cannot \x1b[31m be read", code=code))
    kept.deliver(20)
    return f"{consumer}/{raw.topic}/{raw.partition}/{raw.offset}"


def sent(region: Region, key: str, value: bytes, partition: int = 0) -> Raw:
    """A record of the command topic, as a stranger sends it."""
    sender = Sender(region.bootstrap)
    headers = [("dlt-topic", b"forged"), ("h", b"\xff")]
    sender.send(Record(COMMANDS, partition, key, value, headers))
    assert sender.flush(20) == 0
    return next(raw for raw in reversed(region.records(COMMANDS)) if raw.value == value)


def fates(region: Region) -> list[tuple[str, Any]]:
    """What has become of letters, by the recovery stream."""
    read = [CODEC.decode_fact(raw.value) for raw in region.records(RECOVERY, 1)]
    kinds = DeadLetterReplayed | DeadLetterDiscarded
    return [(e.aggregate_id, data) for e, data in read if isinstance(data, kinds)]


def all_read(region: Region) -> bool:
    """Whether the primary has committed that it has read all commands there are."""
    places = [(COMMANDS, p) for p in range(PARTITIONS)]
    with closing(Reader(region.bootstrap, "primary.miners.eu")) as reader:
        committed, ends = reader.committed(places), reader.ends(places)
    return all(committed.get(at, 0) >= end for at, end in ends.items())


@pytest.fixture(scope="module")
def stopped(region: Region) -> list[Raw]:
    """Letters of two deposits that a mistake stopped; the primary has no such mistake any more."""
    flawed = region.leader(
        "miner-registry", "miners", "eu-mr-flawed", module="tests.support.processes.flawed_node"
    )
    with region.client("m-1") as client:
        client.register_miner(["inference"], endpoint="e:1", gpus=1)
        for _ in range(2):
            answer = client.send("eu/m-1", c.DepositStake(amount_micro=FLAWED_MICRO)).result(30)
            assert answer.code == "internal"
    until(lambda: len(region.records(LETTERS, 1)) == 2, 20, "two letters")
    # a successor would decide again what is not noted as read
    until(lambda: all_read(region), 20, "how far the commands are read is committed")
    flawed.kill()
    region.leader("miner-registry", "miners", "eu-mr-heir")
    return region.records(LETTERS, 1)


def deposits(region: Region) -> list[int]:
    """What was deposited, by the log."""
    found = [fact.data for fact in region.facts("miners")]
    return [data.amount_micro for data in found if isinstance(data, StakeDeposited)]


def id_of(letter: Raw) -> str:
    headers = dict(letter.headers)
    return "/".join(
        headers[f"dlt-{n}"].decode() for n in ("consumer", "topic", "partition", "offset")
    )


def test_command_that_a_mistake_stopped_is_put_back_once_and_carried_out(
    region: Region, stopped: list[Raw], capsys: pytest.CaptureFixture[str]
) -> None:
    original, letter_id = stopped[0], id_of(stopped[0])
    found = dlt(region, capsys, "list", "--consumer", "primary", "--code", "internal")
    letter = found["letters"][0]
    assert (letter["id"], letter["topic"], letter["status"]) == (letter_id, COMMANDS, "open")
    assert found["counts"] == [
        {
            "consumer": "primary", "topic": COMMANDS, "code": "internal", "status": "open",
            "count": 2,
        }
    ]  # fmt: skip
    shown = dlt(region, capsys, "show", letter_id)
    assert shown["decoded"]["type"] == "DepositStake"
    assert shown["decoded"]["fields"]["amount_micro"] == FLAWED_MICRO
    assert "KeyError" in shown["message"]
    assert shown["headers"]["ce_type"] == "everlode.DepositStake"
    assert not [name for name in shown["headers"] if name.startswith("dlt-")]
    before = len(region.records(COMMANDS))
    assert dlt(region, capsys, "replay", letter_id, "--dry-run")["dry_run"] is True
    assert (len(region.records(COMMANDS)), fates(region)) == (before, [])

    words = ("replay", letter_id, "--reason", "repaired", "--operator", "ann")
    (replayed,) = dlt(region, capsys, *words)["letters"]
    again = dlt(region, capsys, *words)["letters"]
    assert again == [replayed]  # the first one's time too
    assert replayed["status"] == "replayed"
    assert len(region.records(COMMANDS)) == before + 1
    put_back = next(r for r in region.records(COMMANDS) if "dlt-replay-of" in dict(r.headers))
    assert (put_back.key, put_back.value) == (original.key, original.value)
    assert put_back.partition == letter["partition"]
    assert [key for key, _ in fates(region)] == [letter_id]
    assert fates(region)[0][1].reason == "repaired"
    assert dlt(region, capsys, "list", "--code", "internal")["total"] == 1
    assert dlt(region, capsys, "list", "--status", "replayed")["total"] == 1
    assert region.records(LETTERS, 1)[0].value == original.value  # it stays
    until(lambda: deposits(region) == [FLAWED_MICRO], 30, "it is carried out, once")
    refused = dlt(region, capsys, "discard", letter_id, "--reason", "x", "--yes", code=1)
    assert refused["error"]["code"] == "replayed"


KILLED = """
import os, sys
from everlode.adapters.kafka_writer import Writer, produce
from everlode.cli.main import run

def write(self, records, *rest):
    self._producer.begin_transaction()
    for record in records:
        produce(self._producer, record, None)
    self._producer.flush(20)
    os._exit(9)

Writer.write = write
run(sys.argv[1:])
"""
"""A replay that is killed when all is at the broker and nothing is committed."""


def test_replay_that_is_killed_in_its_transaction_is_done_by_the_next_one(
    region: Region, stopped: list[Raw], capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id, before = id_of(stopped[1]), deposits(region)
    words = ["dlt", "replay", letter_id, "--dir", str(region.folder / "stack")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False, timeout=60)
    assert killed.returncode == 9
    assert letter_id not in dict(fates(region))
    # a primary reads what is not committed: it may carry the command out, and does so once
    until(lambda: len(deposits(region)) == len(before) + 1, 30, "it is carried out")
    assert dlt(region, capsys, "replay", letter_id)["letters"][0]["status"] == "replayed"
    assert list(dict(fates(region))).count(letter_id) == 1
    mine = [r for r in region.records(COMMANDS) if r.value == stopped[1].value]
    assert len(mine) == 2  # as it came first, and as it was put back
    with region.client("m-2") as client:  # behind it, so that it has been read
        client.register_miner(["inference"], endpoint="e:2", gpus=1)
        client.call("eu/m-1", c.DepositStake(amount_micro=1))
    assert deposits(region) == [*before, FLAWED_MICRO, 1]


def test_of_two_who_decide_at_once_one_does(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = sent(region, "twice", b"junk of two")
    letter_id = keep(region, "primary", raw)
    wish = Wish(letter_id, "ann")
    with closing(Decider(region.endpoints, "eu", WallClock())) as first:
        with closing(Decider(region.endpoints, "eu", WallClock())) as second:
            second.replay([wish])
        with pytest.raises(Locked):
            first.replay([wish])
    values = [r.value for r in region.records(COMMANDS)]
    assert values.count(b"junk of two") == 2
    assert [key for key, _ in fates(region)].count(letter_id) == 1
    # and who comes after them finds it done
    assert dlt(region, capsys, "replay", letter_id)["letters"][0]["operator"] == "ann"
    assert [r.value for r in region.records(COMMANDS)] == values


def test_letter_that_was_written_twice_is_one(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = sent(region, "same", b"junk that came twice")
    letter_id = keep(region, "primary", raw)
    assert keep(region, "primary", raw) == letter_id
    rows = dlt(region, capsys, "list", "--status", "all", "--limit", "1000")["letters"]
    assert [row["id"] for row in rows].count(letter_id) == 1
    shown = dlt(region, capsys, "show", letter_id)
    assert (shown["topic"], shown["offset"], shown["key"]) == (COMMANDS, raw.offset, "same")
    assert shown["headers"] == {"dlt-topic": "forged", "h": r"\xff"}
    assert bytes.fromhex(shown["value_hex"]) == b"junk that came twice"
    assert shown["decoded"] is None


def test_discard_wants_a_yes_and_a_reason_and_is_recorded_and_final(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id = keep(region, "primary", sent(region, "spam", b"junk to discard"))
    before = fates(region)
    refused = dlt(region, capsys, "discard", letter_id, "--reason", "spam", code=14)
    assert refused["error"]["code"] == "precondition"
    assert dlt(region, capsys, "discard", letter_id, "--yes", code=2)["error"]["code"] == "usage"
    blank = dlt(region, capsys, "discard", letter_id, "--reason", " ", "--yes", code=1)
    assert blank["error"]["code"] == "no_reason"
    assert fates(region) == before
    words = ("discard", letter_id, "--reason", "spam", "--yes")
    (gone,) = dlt(region, capsys, *words)["letters"]
    assert (gone["status"], gone["reason"]) == ("discarded", "spam")
    assert dlt(region, capsys, *words)["letters"] == [gone]
    assert [data.reason for key, data in fates(region) if key == letter_id] == ["spam"]
    assert dlt(region, capsys, "replay", letter_id, code=1)["error"]["code"] == "discarded"
    assert dlt(region, capsys, "show", letter_id)["value_hex"] == b"junk to discard".hex()


@pytest.mark.parametrize(
    ("consumer", "topic"),
    [
        ("projector", FACTS), ("primary", FACTS), ("detector", "eu.1.heartbeats"),
        ("coordinator", "eu.1.health"), ("coordinator", RECOVERY),
    ],
)  # fmt: skip
def test_what_is_no_command_is_not_put_back_but_may_be_discarded(
    region: Region, capsys: pytest.CaptureFixture[str], consumer: str, topic: str
) -> None:
    letter_id = keep(region, consumer, Raw(topic, 0, 5, b"k", b"junk", []))
    partitions = 1 if topic.startswith("eu.1.health") or topic == RECOVERY else PARTITIONS
    refused = dlt(region, capsys, "replay", letter_id, code=1)["error"]
    assert refused["code"] == "not_replayable"
    assert refused["hint"]
    assert b"junk" not in [raw.value for raw in region.records(topic, partitions)]
    words = ("discard", letter_id, "--reason", "old", "--yes")
    assert dlt(region, capsys, *words)["letters"][0]["status"] == "discarded"


def test_nothing_is_done_unless_all_may_be(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    good = keep(region, "primary", sent(region, "good", b"junk among others"))
    before = (len(region.records(COMMANDS)), fates(region))
    assert dlt(region, capsys, "replay", good, "primary/x/0/1", code=10)["error"]["code"]
    large = keep(region, "primary", Raw(COMMANDS, 0, 10**6, b"k" * 40_000, b"junk", []))
    refused = dlt(region, capsys, "replay", good, large, code=1)["error"]
    assert refused["code"] == "left_out"
    assert (len(region.records(COMMANDS)), fates(region)) == before


def test_record_without_provenance_is_shown_and_not_put_back(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = Sender(region.bootstrap)
    sender.send(Record(LETTERS, 0, "k", b"by hand", [("dlt-consumer", b"x")]))
    assert sender.flush(20) == 0
    (row,) = dlt(region, capsys, "list", "--code", "no_provenance")["letters"]
    assert (row["consumer"], row["topic"]) == ("primary", COMMANDS)
    assert dlt(region, capsys, "replay", row["id"], code=1)["error"]["code"] == "not_replayable"


def test_table_shows_what_json_has_and_nothing_that_moves_a_terminal(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    letter_id = keep(region, "primary", sent(region, "shown", b"junk to show"))
    assert run(["dlt", "list", "--dir", str(region.folder / "stack")]) == 0
    shown = capsys.readouterr().out
    assert letter_id in shown
    assert "\x1b[31m" not in shown
    total = dlt(region, capsys, "list")["total"]
    assert f"{total}  in all" in shown


def test_listing_reads_the_newest_letters_of_a_topic(
    region: Region, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = dlt(region, capsys, "list", "--status", "all", "--limit", "1000")["letters"]
    mine = [row["id"] for row in rows if row["topic"] == COMMANDS]
    monkeypatch.setattr(letters, "MOST", 1)
    few = dlt(region, capsys, "list", "--status", "all")["letters"]
    assert [row["id"] for row in few if row["topic"] == COMMANDS] == mine[-1:]


def test_letter_that_is_older_than_its_fate_may_be_kept_is_gone(
    region: Region, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broker removes whole segments: a letter may outlive its fate, and is not open again."""
    assert dlt(region, capsys, "list", "--status", "all")["total"] > 0
    later_ns = time.time_ns() + (region.endpoints.topology.retention_ms + 1000) * 1_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later_ns)
    assert dlt(region, capsys, "list", "--status", "all")["total"] == 0


@pytest.mark.parametrize("words", [["list", "--region", "xx"], ["list", "--status", "xx"]])
def test_unknown_region_and_status_are_usage(
    region: Region, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert dlt(region, capsys, *words, code=2)["error"]["message"]
