"""How many events a second one process takes from Kafka to PostgreSQL rows and state records.

Ours: the projector's bulk path as it runs (decode, check, fold, COPY, state topics), full
envelopes, a new generation each round. Against, in `catch_up.limit`: the slower of reading the same
records and only decoding them with fastavro, and COPYing them into a table as they are. Against, in
`catch_up.faust`: the same fold in a Faust agent that writes the states to a Table (in memory,
with a changelog) and reads them from a dict beside it, which is quicker. Each clock starts when its
reader stands ready: ours when the partitions have been taken over.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.result import MIN_ROUNDS, write
from everlode.adapters.kafka import TAIL_S, Reader
from everlode.avro.codec import Codec
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.projector.bulk import catch_up
from everlode.topics import fact_topics
from everlode.topics.names import fact_topic
from everlode.topics.partition import partition_of
from tests.support.world.backed import story
from tests.support.world.projected import TOPOLOGY, Lab

EVENTS = int(os.environ.get("BENCH_EVENTS", "200000"))
FAUST_EVENTS = EVENTS // 4
"""Of fewer events: it is slow, and its rate does not depend on how many there are."""
TOPICS = fact_topics(TOPOLOGY)
PLACES = {(t, p): 0 for t in TOPICS for p in range(TOPOLOGY.partitions)}


def fill(lab: Lab) -> int:
    """A simulated region's facts, again and again under new names; returns how many."""
    template = story(1, 60)
    count = 0
    while count < EVENTS:
        for component, fact in template:
            envelope = fact.envelope
            key = f"{envelope.aggregate_id}~{count // len(template)}"
            partition = partition_of(key, TOPOLOGY.partitions)
            name, value = lab.fact(
                component, fact, partition=partition, aggregate_id=key,
                event_id=f"{envelope.event_id[:36]}~{count}",
            )  # fmt: skip
            lab.put(fact_topic("eu.1", component), name, value, partition)
            count += 1
        lab.flush()
    return count


def ours(lab: Lab, count: int) -> float:
    """Events a second."""
    lab.make(lab.generation + 1)
    workers = {p: lab.worker(p) for p in range(TOPOLOGY.partitions)}
    began = time.perf_counter()
    done = catch_up(lab.bootstrap, workers, TOPICS)
    seconds = time.perf_counter() - began
    lab.leave()
    assert done == count
    [(folded,)] = lab.query("select value from {g}.counters where name = 'bulk'")
    assert folded == count, (folded, count)
    return count / seconds


def decode(lab: Lab, count: int) -> float:
    """Events a second, read and decoded by fastavro, nothing else."""
    reader = Reader(lab.bootstrap, "bench", wait_ms=50)
    codec, done = Codec(), 0
    began = time.perf_counter()
    reader.assign(PLACES)
    while done < count:
        for raw in reader.batch(5000, 0.2, TAIL_S):  # the last one is not waited for
            codec.decode_dict(raw.value)
            done += 1
    seconds = time.perf_counter() - began
    reader.close()
    return count / seconds


def copy(lab: Lab, rows: list[tuple[Any, ...]]) -> float:
    """Rows a second, COPYed as they are."""
    with psycopg.connect(lab.conninfo, autocommit=True) as db:
        db.execute("drop table if exists bench")
        db.execute("create table bench (topic text, part int, at bigint, key bytea, value bytea)")
        began = time.perf_counter()
        for start in range(0, len(rows), 5000):
            with (
                db.cursor() as cursor,
                cursor.copy("copy bench (topic, part, at, key, value) from stdin") as out,
            ):
                for row in rows[start : start + 5000]:
                    out.write_row(row)
        return len(rows) / (time.perf_counter() - began)


def faust_table(bootstrap: str, count: int) -> float:
    """Events a second, by a Faust agent with a Table. Runs in a process of its own."""
    from everlode.agents.app import make_app, raw_topic
    from everlode.avro.codec import encode_state
    from everlode.state.dispatch import component_of_state, evolve_fact

    name = f"bench-{time.time_ns()}"
    app = make_app(
        name, bootstrap, topic_allow_declare=True, value_serializer="raw",
        topic_partitions=TOPOLOGY.partitions, topic_replication_factor=1,
    )  # fmt: skip
    table = app.Table("states", partitions=TOPOLOGY.partitions, key_type=bytes, value_type=bytes)
    codec = Codec()
    states: dict[tuple[str, str], Any] = {}
    seen, began, ended = 0, 0.0, 0.0

    @app.agent(raw_topic(app, *TOPICS), name=f"{name}.fold")
    async def fold(stream: Any) -> None:
        nonlocal seen, began, ended
        async for event in stream.events():
            began = began or time.perf_counter()
            fact = codec.decode_fact(event.value)
            key = (component_of_state(type(fact.data)), fact.envelope.aggregate_id)
            states[key] = state = evolve_fact(states.get(key), fact, event.message.partition)
            if state is not None:
                table[f"{key[0]}/{key[1]}".encode()] = encode_state(state)
            seen += 1
            if seen >= count:
                ended = ended or time.perf_counter()

    async def main() -> None:
        await app.start()
        while not ended:
            await asyncio.sleep(0.05)
        await app.stop()

    asyncio.run(asyncio.wait_for(main(), 240))
    return count / (ended - began)


def faust(lab: Lab) -> float:
    """`faust_table`, in its process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.catch_up", lab.bootstrap, str(FAUST_EVENTS)],
        stdout=subprocess.PIPE, check=True, text=True, timeout=280,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    """Three rounds, alternating."""
    with tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """In this folder."""
    with Lab(folder) as lab:
        count = fill(lab)
        reader = Reader(lab.bootstrap, "bench-rows")
        found = reader.to_ends(PLACES, 60)
        rows = [(r.topic, r.partition, r.offset, r.key, r.value) for b in found for r in b]
        reader.close()
        mine, limits, tables = [], [], []
        for number in range(MIN_ROUNDS):
            for step in (0, 1, 2) if number % 2 == 0 else (2, 1, 0):
                if step == 0:
                    mine.append(ours(lab, count))
                elif step == 1:
                    limits.append((decode(lab, count), copy(lab, rows)))
                else:
                    tables.append(faust(lab))
            print(mine, limits, tables, file=sys.stderr)
    slower = [min(pair) for pair in limits]
    more = {"events": count, "topics": len(FACT_COMPONENTS), "wanted": 0.5}
    write(
        "catch_up.limit", "events a second", mine,
        "the slower of consume + fastavro decode and raw COPY", slower,
        decode=round(sum(d for d, _ in limits) / len(limits)),
        copy=round(sum(c for _, c in limits) / len(limits)), **more,
    )  # fmt: skip
    more["wanted"] = 5
    write("catch_up.faust", "events a second", mine, "a Faust agent with a Table", tables, **more)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(faust_table(sys.argv[1], int(sys.argv[2])))
    else:
        main()
