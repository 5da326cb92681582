"""What goes wrong around a stack: kills, locks, ports, room, damage. On real parts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from minio import Minio

from everlode.adapters.kafka_admin import state_generations
from everlode.adapters.kafka_topics import alter_topic, delete_topics, ensure_topics
from everlode.adapters.postgres_next import NextGeneration
from everlode.cli.main import run
from everlode.errors import ConfigError, IntegrityError, Locked, NotFound, Unavailable
from everlode.projection.fold import Prefix
from everlode.stack import Endpoints, Limits, NativeStack
from everlode.stack.doctor import examine
from everlode.stack.native.detach import start_detached, stop_detached
from everlode.stack.native.lock import StackLock, holder
from everlode.stack.native.supervisor import save_options
from everlode.telemetry.entries import Entry, Note
from everlode.topics import Topology, state_topics
from tests.support.processes.disks import small_disk
from tests.support.processes.entries import entry_in
from tests.support.processes.outputs import fitting

pytestmark = pytest.mark.timeout(120)
ONE = Topology(regions=("eu",), control_replication=1, control_min_insync=1)


def one_region(folder: Path, **limits: object) -> NativeStack:
    return NativeStack(
        ONE,
        folder,
        mirrors=False,
        control_nodes=0,
        s3=None,
        limits=Limits(**limits),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeStack]:
    """One stack for the tests that leave it as they found it."""
    with one_region(tmp_path_factory.mktemp("running")) as stack:
        stack.up()
        yield stack
        stack.down(at_once=True)


def write(stack: NativeStack, value: str) -> None:
    """One record and one row."""
    assert stack.endpoints is not None
    region = stack.endpoints.regions["eu"]
    producer = Producer({"bootstrap.servers": region.kafka_bootstrap, "acks": "all"})
    producer.produce("eu.1.receipts", value.encode(), b"k")
    assert producer.flush(20) == 0
    with psycopg.connect(region.postgres_conninfo()) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (value,))


def records(stack: NativeStack, count: int) -> list[str]:
    assert stack.endpoints is not None
    bootstrap = stack.endpoints.regions["eu"].kafka_bootstrap
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    found: list[str] = []
    deadline = time.monotonic() + 20
    try:
        consumer.subscribe(["eu.1.receipts"])
        while len(found) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            value = None if message is None or message.error() else message.value()
            if value is not None:
                found.append(value.decode())
    finally:
        consumer.close()
    return found


def rows(stack: NativeStack) -> list[str]:
    assert stack.endpoints is not None
    with psycopg.connect(stack.endpoints.regions["eu"].postgres_conninfo()) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def none_alive(pids: list[int], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        alive = []
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    alive.append(pid)
        if not alive:
            return True
        time.sleep(0.1)
    return False


def family(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def test_down_and_up_keep_data_and_ports(tmp_path: Path) -> None:
    with one_region(tmp_path) as stack:
        before = stack.up()
        write(stack, "first")
    with one_region(tmp_path) as stack:
        assert stack.up() == before
        write(stack, "second")
        assert records(stack, 2) == ["first", "second"]
        assert rows(stack) == ["first", "second"]


def test_broker_and_database_killed_come_back_with_their_data_and_a_wiped_one_empty(
    running: NativeStack,
) -> None:
    write(running, "first")
    for name in ("eu/kafka", "eu/postgres"):
        running.kill(name)
        assert {s.name: s.exit_status for s in running.processes()}[name] == -9
        running.restart(name)
    write(running, "second")
    assert records(running, 2) == ["first", "second"]
    assert rows(running) == ["first", "second"]
    running.wipe("eu/postgres")
    assert not (running.data_dir / "eu" / "postgres" / "data").exists()
    running.restart("eu/postgres")
    with pytest.raises(psycopg.errors.UndefinedTable):
        rows(running)


def test_process_paused_does_not_answer_until_resumed(running: NativeStack) -> None:
    assert running.endpoints is not None
    conninfo = running.endpoints.regions["eu"].postgres_conninfo()
    running.pause("eu/postgres")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(conninfo, connect_timeout=2)
    running.resume("eu/postgres")
    psycopg.connect(conninfo, connect_timeout=10).close()


def test_generation_that_replaced_the_first_is_checked_and_the_first_stays_gone(
    tmp_path: Path,
) -> None:
    with one_region(tmp_path) as stack:
        bootstrap = stack.up().regions["eu"].kafka_bootstrap
        ensure_topics(bootstrap, state_topics(ONE, "eu", 2))
        delete_topics(bootstrap, [spec.name for spec in state_topics(ONE, "eu", 1)])
    with one_region(tmp_path) as stack:
        endpoints = stack.up()
        assert state_generations(endpoints.regions["eu"].kafka_bootstrap) == (2,)
        assert examine(ONE, endpoints).green
        lost = "state.g2.tasks"
        delete_topics(endpoints.regions["eu"].kafka_bootstrap, [lost, "never.was"])
        drifts = examine(ONE, endpoints).drifts
        assert [(drift.topic, drift.found) for drift in drifts] == [(lost, "(missing)")]
        conninfo = endpoints.regions["eu"].postgres_conninfo()
        with contextlib.closing(NextGeneration(conninfo, 2, "test")) as db:
            db.create()
            db.place(0, {"eu.1.miners": Prefix(5, 5, 6)})
            db.switch()
    # what a database has a position for is not made again but for the operator's word
    with (
        one_region(tmp_path) as stack,
        pytest.raises(IntegrityError, match=rf"{lost} is not there") as caught,
    ):
        stack.up()
    assert (caught.value.code, "--remake-topics" in caught.value.hint) == ("topic_lost", True)
    reported: list[Entry] = []
    with one_region(tmp_path, remake_topics=True) as stack:
        assert examine(ONE, stack.up(reported.append)).green
    assert [e for e in reported if isinstance(e, Note) and lost in e.text]


def test_unknown_process_is_not_found_and_the_known_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no process eu/kafka"):
        one_region(tmp_path).kill("eu/kafka")


def test_second_up_in_the_same_folder_is_locked_by_a_named_pid(running: NativeStack) -> None:
    with pytest.raises(Locked, match=f"pid {os.getpid()}") as caught:
        one_region(running.data_dir).up()
    assert caught.value.exit_code == 11
    assert all(status.exit_status is None for status in running.processes())


def test_fixed_port_in_use_is_refused_by_name_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} for eu/kafka is in use"):
            one_region(tmp_path, fixed_ports={"eu/kafka": port}).up()
    assert holder(tmp_path) is None


def test_up_on_a_port_in_use_or_a_full_disk_gives_its_error_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_options(tmp_path, ONE, mirrors=False, control_nodes=0, s3=None)
    others = set(family(os.getpid()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        asked = ("up", "--dir", str(tmp_path), "--json", "--port", f"eu/kafka={port}")
        code, out = command(capsys, *asked)
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (2, "port_in_use")
    assert f"port {port} for eu/kafka" in error["message"]
    assert "ss -ltnp" in error["hint"]
    with small_disk(tmp_path / "full", "1m") as full:
        code, out = command(capsys, "up", "--dir", str(full), "--json", "--regions", "eu")
        error = json.loads(out)["error"]
        assert (code, error["code"]) == (1, "no_room")
        assert str(full) in error["message"]
        assert "--dir" in error["hint"]
        assert holder(full) is None
    assert holder(tmp_path) is None
    assert none_alive([pid for pid in family(os.getpid()) if pid not in others], 1.0)


@contextlib.contextmanager
def closing_listener(port: int) -> Iterator[None]:
    """Another program on a port: it takes a connection and closes it, as one that does not
    understand what it is sent. A client that was silently held would ask again after 10 s only.
    """
    server = socketserver.TCPServer(("127.0.0.1", port), socketserver.BaseRequestHandler, False)
    server.allow_reuse_address = True
    with server:
        server.server_bind()
        server.server_activate()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_kept_port_in_use_is_replaced(tmp_path: Path) -> None:
    with one_region(tmp_path) as stack:
        before = stack.up().regions["eu"].kafka_bootstrap
        write(stack, "first")
    port = int(before.rpartition(":")[2])
    with closing_listener(port), one_region(tmp_path) as stack:
        assert stack.up().regions["eu"].kafka_bootstrap != before
        assert records(stack, 1) == ["first"]


def test_disk_without_room_is_refused_before_anything_starts(tmp_path: Path) -> None:
    stack = one_region(tmp_path, min_free_bytes=2**60)
    with pytest.raises(Unavailable, match="MiB free, a stack needs") as caught:
        stack.up()
    assert caught.value.code == "no_room"
    assert stack.processes() == []
    assert holder(tmp_path) is None


def test_broker_that_dies_in_up_is_named_with_its_log_and_the_rest_is_stopped(
    tmp_path: Path,
) -> None:
    others = set(family(os.getpid()))  # stacks of the session
    data = tmp_path / "eu" / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=77\n")
    with pytest.raises(Unavailable, match="eu/kafka ended with status 1") as caught:
        one_region(tmp_path).up()
    assert "77" in caught.value.message
    assert "eu-kafka.log" in caught.value.hint
    assert holder(tmp_path) is None
    assert none_alive([pid for pid in family(os.getpid()) if pid not in others], 1.0)


@pytest.mark.parametrize("name", ["eu/kafka", "eu/postgres"])
def test_part_killed_in_up_is_named_and_the_rest_is_stopped(tmp_path: Path, name: str) -> None:
    """The other one is ready, or as good as, and is stopped too."""
    others = set(family(os.getpid()))
    stack = one_region(tmp_path)
    killed = threading.Event()

    def kill(_: Entry) -> None:
        for status in stack.processes():
            if status.name == name and status.pid is not None and not killed.is_set():
                killed.set()
                os.kill(status.pid, signal.SIGKILL)

    with pytest.raises(Unavailable, match=f"{name} ended with status -9") as caught:
        stack.up(kill)
    assert killed.is_set()
    assert (caught.value.code, caught.value.exit_code) == ("died", 1)
    assert name.replace("/", "-") in caught.value.hint
    assert holder(tmp_path) is None
    assert none_alive([pid for pid in family(os.getpid()) if pid not in others], 1.0)
    with one_region(tmp_path) as again:  # and nothing stands in the way of the next one
        again.up()


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Path]:
    save_options(tmp_path, ONE, mirrors=False, control_nodes=0, s3=None)
    start_detached(tmp_path, {}, 60.0)
    yield tmp_path
    stop_detached(tmp_path, 30.0)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and standard output of `everlode stack ...`."""
    capsys.readouterr()
    code = run(["stack", *arguments])
    out = capsys.readouterr().out
    if "--json" in arguments and arguments[0] != "logs":  # that prints a document a line
        fitting(["stack", *arguments], out)
    return code, out


def not_serving(out: str) -> dict[str, str]:
    """Part → its state, as `status --json` has it, of those that do not serve."""
    return {p["name"]: p["state"] for p in json.loads(out)["processes"] if p["why"]}


def serves_again(capsys: pytest.CaptureFixture[str], *place: str) -> bool:
    """True once everything serves, and the broker was started again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        code, out = command(capsys, "status", *place)
        restarts = {p["name"]: p["restarts"] for p in json.loads(out)["processes"]}
        if (code, restarts) == (0, {"eu/kafka": 1, "eu/postgres": 0, "guard": 0}):
            return True
        time.sleep(0.2)
    return False


def doctor_says(capsys: pytest.CaptureFixture[str], code: int, *place: str) -> bool:
    deadline = time.monotonic() + 20
    while command(capsys, "doctor", *place)[0] != code:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_commands_on_a_detached_stack(detached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--dir", str(detached), "--json")
    code, out = command(capsys, "status", *place)
    report = json.loads(out)
    assert (code, report["state"]) == (0, "ready")
    assert {p["name"] for p in report["processes"]} == {"eu/kafka", "eu/postgres", "guard"}
    assert command(capsys, "doctor", *place)[0] == 0
    code, out = command(capsys, "up", *place)
    assert (code, json.loads(out)["error"]["code"]) == (11, "locked")
    bootstrap = Endpoints.load(detached).regions["eu"].kafka_bootstrap
    kept = str(ONE.retention_ms)
    alter_topic(bootstrap, "eu.1.health", {"retention.ms": "86400000"})
    assert doctor_says(capsys, 20, *place[:2])  # a broker learns of a new setting a little later
    code, out = command(capsys, "doctor", *place)
    assert (code, json.loads(out)["drifts"]) == (
        20,
        [
            {
                "cluster": "eu", "topic": "eu.1.health", "setting": "retention.ms",
                "expected": kept, "found": "86400000",
            }
        ],
    )  # fmt: skip
    code, out = command(capsys, "doctor", *place[:2])
    assert code == 20
    assert all(word in out for word in ("eu.1.health", "retention.ms", kept, "86400000"))
    alter_topic(bootstrap, "eu.1.health", {"retention.ms": kept})
    assert doctor_says(capsys, 0, *place[:2])
    broker = next(p["pid"] for p in report["processes"] if p["name"] == "eu/kafka")
    os.kill(broker, signal.SIGSTOP)
    code, out = command(capsys, "status", *place)
    assert (code, not_serving(out)) == (20, {"eu/kafka": "silent"})
    code, out = command(capsys, "doctor", *place)
    assert (code, list(json.loads(out)["unreachable"])) == (20, ["eu"])
    os.kill(broker, signal.SIGKILL)  # what has ended is started again, and that is shown
    assert none_alive([broker])
    assert serves_again(capsys, *place)
    assert command(capsys, "doctor", *place)[0] == 0
    _, out = command(capsys, "logs", "eu/postgres", "--dir", str(detached))
    assert "ready to accept connections" in out
    children = family(report["pid"])
    assert command(capsys, "down", *place)[0] == 0
    assert none_alive(children, 1.0)
    assert json.loads(command(capsys, "status", *place)[1])["state"] == "stopped"
    lock = StackLock(detached)
    lock.acquire()
    code, out = command(capsys, "status", *place)  # nothing but the lock is held
    lock.release()
    assert (code, json.loads(out)["state"]) == (20, "degraded")
    assert not_serving(out) == {"eu/kafka": "missing", "eu/postgres": "missing"}
    assert command(capsys, "fetch", "--json")[0] == 0
    code, out = command(capsys, "up", *place)
    assert (code, json.loads(out)["regions"].keys()) == (0, {"eu"})
    assert command(capsys, "down", *place)[0] == 0


def test_commands_without_a_stack_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--dir", str(tmp_path / "none"), "--json")
    assert command(capsys, "status", *place)[0] == 10
    assert command(capsys, "doctor", *place)[0] == 10
    assert command(capsys, "logs", *place)[0] == 10
    assert command(capsys, "down", *place)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--s3", "floppy"), "floppy"),
        (("--port", "eu/kafka"), "NAME=PORT"),
        (("--port", "eu/kafka=99999"), "NAME=PORT"),
        (("--port", "mars/kafka=9092"), "mars/kafka"),
        (("--regions", "eu,eu"), "once"),
    ],
)
def test_up_with_a_wrong_argument_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], said: str
) -> None:
    code, out = command(capsys, "up", "--dir", str(tmp_path), "--json", *arguments)
    assert code == 2
    assert said in json.loads(out)["error"]["message"]
    assert holder(tmp_path) is None


def test_up_with_other_regions_than_the_folder_has_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_options(tmp_path, ONE, mirrors=False, control_nodes=0, s3=None)
    code, out = command(capsys, "up", "--dir", str(tmp_path), "--json", "--regions", "eu,us")
    assert code == 2
    assert "has eu" in json.loads(out)["error"]["message"]


def test_up_that_fails_behind_the_command_gives_its_error_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_options(tmp_path, ONE, mirrors=False, control_nodes=0, s3=None)
    data = tmp_path / "eu" / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=77\n")
    code, out = command(capsys, "up", "--dir", str(tmp_path), "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == "died"
    assert holder(tmp_path) is None


def test_up_in_the_foreground_ends_with_ctrl_c_and_leaves_nothing(tmp_path: Path) -> None:
    save_options(tmp_path, ONE, mirrors=False, control_nodes=0, s3=None)
    arguments = ["stack", "up", "--foreground", "--dir", str(tmp_path)]
    for moment, code in (
        ({"entry": "Note", "remark": "running; Ctrl-C stops it"}, 0),
        ({"entry": "PartReady", "part": "eu/kafka"}, 130),
    ):
        with subprocess.Popen(
            [sys.executable, "-m", "everlode.cli.main", *arguments],
            env=os.environ | {"EVERLODE_LOG": "json"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stderr is not None
            while not moment.items() <= entry_in(process.stderr.readline()).items():
                assert process.poll() is None
            children = family(process.pid)
            assert children
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == code
            assert none_alive(children)


def test_no_secret_is_in_an_argument_or_a_log_and_rclone_killed_keeps_its_objects(
    tmp_path: Path,
) -> None:
    with NativeStack(ONE, tmp_path, mirrors=False, control_nodes=0, s3="rclone") as stack:
        endpoints = stack.up()
        assert endpoints.s3 is not None
        secrets = [path.read_text().strip() for path in (tmp_path / "secrets").iterdir()]
        assert len(secrets) == 3
        shown = [endpoints.model_dump_json()]
        seen = 0
        for pid in family(os.getpid()):
            with contextlib.suppress(psutil.ZombieProcess):
                shown += psutil.Process(pid).cmdline()
                seen += 1
        assert seen >= len(stack.processes())
        shown += [path.read_text() for path in (tmp_path / "logs").iterdir()]
        assert not [text for text in shown for secret in secrets if secret in text]
        assert endpoints.s3.server == "rclone"
        assert "asked for" in endpoints.s3.reason
        assert objects(endpoints, put="kept") == set()
        stack.kill("s3")
        stack.restart("s3")
        assert objects(endpoints, put="more") == {"kept"}


def objects(endpoints: Endpoints, put: str) -> set[str | None]:
    """What a bucket held, before one more object was put there."""
    assert endpoints.s3 is not None
    access, secret = endpoints.s3.keys()
    client = Minio(endpoints.s3.endpoint, access_key=access, secret_key=secret, secure=False)
    found = {o.object_name for o in client.list_objects("everlode-b")}
    client.put_object("everlode-b", put, io.BytesIO(b"x"), 1)
    return found


def test_minio_keeps_its_objects_over_down_and_up(tmp_path: Path) -> None:
    for expected in (set(), {"kept"}):
        with NativeStack(ONE, tmp_path, mirrors=False, control_nodes=0, s3="minio") as stack:
            endpoints = stack.up()
            assert endpoints.s3 is not None
            assert endpoints.s3.server == "minio"
            assert objects(endpoints, put="kept") == expected


def test_owner_ended_by_a_signal_or_an_exception_stops_everything(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from everlode.stack import NativeStack\n"
        "stack = NativeStack.small(sys.argv[1], control=False)\n"
        "stack.up()\n"
        "print('up', flush=True)\n"
        "sys.stdin.readline()\n"
        "raise RuntimeError('not handled')\n"
    )
    for number in (signal.SIGTERM, None):  # SIGINT is an exception too
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as owner:
            assert owner.stdout is not None
            assert owner.stdin is not None
            assert owner.stdout.readline() == b"up\n"
            children = family(owner.pid)
            assert len(children) >= 3
            if number is None:
                owner.stdin.close()
            else:
                owner.send_signal(number)
            assert owner.wait(30) != 0
            assert none_alive(children), number
