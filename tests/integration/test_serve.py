"""`everlode serve` on real parts: queries, commands, events that resume, what is refused."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from playwright.sync_api import Browser, Page, expect
from prometheus_client.parser import text_string_to_metric_families
from schemathesis import checks
from schemathesis.core.failures import FailureGroup

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_sender import Sender
from everlode.events.recovery import BackupEnded
from everlode.events.stamp import stamp_at
from everlode.health.weights import NODE
from everlode.log.announcer import Announcer
from everlode.settings.endpoints import Endpoints
from everlode.telemetry import figures
from everlode.topics.names import command_topic, fact_topic
from tests.support.facts.alerts import metrics_of_alerts
from tests.support.facts.dashboards import metrics_of_dashboards
from tests.support.processes.chromium import chromium, opened, shot, width_of
from tests.support.processes.collector import Collector
from tests.support.processes.entries import entries, matching
from tests.support.processes.scraping import figures_of, scrape, targets
from tests.support.world.region import Region, until
from tests.support.world.serving import TOKENS, Server, tokens_file
from tests.unit.test_runbooks import exported

pytestmark = pytest.mark.timeout(300)
AWKWARD = ("eu/a/b?c#d", "eu/..", "..", "%2e", "eu/%2e%2e/x", "a b+c&d=e;f", "eu/" + "ä" * 97)
"""Lawful ids that a path may spoil."""
SHA = "0" * 64


BEYOND_SCHEMAS = [
    checks.not_a_server_error,  # a deadline may pass, which is 504; 500 is looked for below
    checks.positive_data_acceptance,  # times finer than a millisecond are refused
]
EXAMPLES = 3
"""Of each operation and way of asking."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Region]:
    """All services of a region, traced; its coordinator decides who leads."""
    folder = tmp_path_factory.mktemp("serve")
    with pytest.MonkeyPatch.context() as patch, Region(folder) as found:
        patch.setenv("EVERLODE_METRICS_DIR", str(folder / "metrics"))
        patch.setenv("EVERLODE_OTLP", collector.address)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        found.coordinator("eu-co-1")
        found.process("detector", "eu-det-1")
        found.process("projector", "eu-pj-1")
        for kind, node_id in (
            ("miner-registry", "eu-mr-1"), ("miner-registry", "eu-mr-2"),
            ("task-manager", "eu-tm-1"), ("validator", "eu-val-1"),
            ("reward-distributor", "eu-rd-1"),
        ):  # fmt: skip
            found.node(kind, node_id)
        yield found


@pytest.fixture(scope="module")
def server(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tokens")
    with open_server(region, folder) as found:
        until(lambda: found.ask("/region/eu").status == 200, 120, "all services are led")
        until(lambda: found.ask("/readyz").status == 200, 60, "it is ready")
        yield found


def open_server(region: Region, folder: Path) -> Server:
    options = ("--tokens", str(tokens_file(folder)))
    return Server(region.folder / "stack", folder / "serve.log", *options)


def register(server: Server, miner: str, **options: Any) -> Any:
    data = {
        "operator_id": "o", "endpoint": "10.0.0.7:9000", "specialties": ["inference"], "gpus": 1,
        "gpu_model": "any", "cpu_milli": 1000, "memory_mib": 1024, "max_concurrent": 1,
    }  # fmt: skip
    return server.command("RegisterMiner", miner, data, **{"role": "operator"} | options)


def submit(server: Server, task: str, **options: Any) -> Any:
    data = {
        "client_id": "c", "task_type": "inference", "payload_uri": "s3://x", "payload_sha256": SHA,
        "payload_bytes": 1, "cpu_milli": 1, "memory_mib": 1, "gpus": 0, "gpu_milli": 0,
        "base_reward_micro": 1_000_000, "max_attempts": 3, "deadline_at": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    return server.command("SubmitTask", task, data, **{"role": "operator"} | options)


def test_nothing_but_livez_is_answered_without_a_token(server: Server) -> None:
    assert server.ask("/livez", role=None).status == 200
    paths = ("/readyz", "/scopes", "/events", "/metrics", "/openapi.json", "/nonsense")
    refused = [server.ask(path, role=None) for path in paths]
    assert {(a.status, a.body["code"]) for a in refused} == {(401, "unauthorized")}
    wrong = {"Authorization": "Bearer nonsense"}
    assert server.ask("/scopes", role=None, headers=wrong).status == 401
    assert register(server, "m-viewer", role="viewer").body["code"] == "forbidden"
    slash = server.command("RetireMiner", "m", {"reason": "x"}, role="viewer")
    assert (slash.status, slash.headers["content-type"]) == (403, "application/problem+json")
    own = server.command("ReleaseStake", "m", {"task_id": "t"}, role="operator")
    assert own.status == 403  # what services ask of one another is an admin's


def test_scopes_regions_and_nodes_are_those_of_the_control_log(server: Server) -> None:
    scopes = {s["scope"]: s for s in server.ask("/scopes").body}
    assert scopes["task-manager/eu"]["primary"] == "eu-tm-1"
    assert scopes["task-manager/eu"]["epoch"] == "1"
    answer = server.ask("/primary/task-manager/eu")
    assert (answer.status, answer.body) == (200, scopes["task-manager/eu"])
    assert server.ask("/primary/task-manager%2Feu?node=eu-tm-1").status == 200
    assert server.ask("/primary/task-manager/eu?node=eu-tm-9").body["code"] == "not_primary"
    assert server.ask("/primary/nonsense").status == 404
    assert server.ask("/region/xx").status == 404
    nodes = {n["node_id"]: n for n in server.ask("/nodes?region=eu").body}
    assert nodes["eu-tm-1"]["leads"] == "task-manager/eu"
    assert server.ask("/scopes/miner-registry/eu").body["nodes"][1]["node_id"] == "eu-mr-2"
    figures = server.ask("/clusters?kind=task-manager").body
    assert (figures["region_id"], figures["generation"]) == ("eu", "1")


def test_health_has_scores_with_their_evidence_of_all_regions_or_one(server: Server) -> None:
    def score() -> float:
        return float(server.ask("/health?region=eu").body["network"]["score"] or 0)

    until(lambda: score() > 0.8, 60, "all are well")
    found = server.ask("/health").body
    assert [region["name"] for region in found["regions"]] == ["eu"]
    assert found["unreachable"] == {}
    nodes = {node["name"]: node for node in found["nodes"]}
    assert {"eu-tm-1", "eu-mr-2", "eu-co-1"} <= nodes.keys()
    assert {e["name"]: e["weight"] for e in nodes["eu-tm-1"]["evidence"]} == {
        name: kind.weight for name, kind in NODE.items()
    }
    assert server.ask("/health?region=xx").status == 404


def test_command_is_carried_out_once_by_its_key_and_seen_in_the_projection(server: Server) -> None:
    key = {"Idempotency-Key": "serve-once"}
    first, again = (register(server, "m-once", headers=key) for _ in range(2))
    assert (first.status, first.body["command_id"]) == (200, "serve-once")
    assert first.body["facts"] == again.body["facts"]
    assert first.body["facts"][0]["version"] == "1"
    until(lambda: server.ask("/miners/m-once").status == 200, 60, "it is projected")
    miner = server.ask("/miners/m-once").body
    assert [e["event"] for e in miner["events"]] == ["MinerRegistered"]
    refused = server.command("DepositStake", "m-none", {"amount_micro": 1}, role="operator")
    assert (refused.status, refused.body["code"]) == (404, "no_miner")


def test_command_is_one_trace_from_the_server_to_its_row_in_the_projection(
    server: Server, collector: Collector
) -> None:
    commands, facts = command_topic("eu", "miners"), fact_topic("eu.1", "miners")
    names = (f"send {commands}", f"process {commands}", f"process {facts}")
    answer = register(server, "m-traced", headers={"Idempotency-Key": "traced/1"})
    assert answer.status == 200
    until(lambda: len(collector.of_command("traced/1")) == 3, 60, "it is visible, and that is told")
    sent, decided, visible = map(collector.of_command("traced/1").get, names)
    assert sent is not None
    assert decided is not None
    assert visible is not None
    assert server.ask("/miners/m-traced").status == 200  # at the end of its last span
    processes = [span.process for span in (sent, decided, visible)]
    assert processes == ["serve-eu", answer.body["node_id"], "eu-pj-1"]
    assert (sent.parent, decided.parent, visible.parent) == (b"", sent.id, decided.id)
    assert visible.message == answer.body["facts"][0]["event_id"]
    batches = {span.id: span for span in collector.spans() if span.links and not span.message}
    assert batches[visible.links[0]].process == "eu-pj-1"
    assert decided.parent in batches[decided.links[0]].links


@pytest.mark.parametrize("task", AWKWARD)
def test_id_that_is_awkward_in_a_path_works(server: Server, task: str) -> None:
    answer = submit(server, task)
    assert answer.status == 200
    path = "/tasks/" + quote(task, safe="").replace(".", "%2E")
    until(lambda: server.ask(path).status == 200, 60, "it is projected")
    found = server.ask(path).body
    home_first = task if task.startswith("eu/") else f"eu/{task}"
    assert found["task_id"] == answer.body["aggregate_id"] == home_first
    assert found["waits_for"]["for"] == "a miner"
    plain = "/tasks/" + quote(task, safe="/.")
    assert server.ask(plain).body == found  # a slash as it is


def test_operator_asks_and_follows_and_a_refusal_gives_the_reason_for_each_node(
    server: Server,
) -> None:
    def ask(role: str, key: str = "", **wish: Any) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        return server.ask("/operations", role=role, method="POST", body=wish, headers=headers)

    registry = "miner-registry/eu"
    before = server.ask(f"/scopes/{registry}").body
    switchover = {"verb": "switchover", "scope": registry}
    assert ask("viewer", **switchover).status == 403
    for wish, status, code in (
        ({"verb": "drain", "node": "eu-tm-9"}, 404, "not_found"),
        ({"verb": "switchover", "scope": "task-manager/eu"}, 409, "not_eligible"),
        ({**switchover, "node": before["primary"]}, 409, "not_eligible"),
        ({"verb": "resume", "scope": registry}, 409, "not_paused"),
        ({"verb": "dance", "scope": registry}, 422, "bad_field"),
        ({**switchover, "timeout_s": 0}, 422, "bad_field"),
    ):
        answer = ask("operator", **wish)
        assert (answer.status, answer.body["code"]) == (status, code), wish
    (other,) = {n["node_id"] for n in before["nodes"]} - {before["primary"]}
    assert f"{other}: can be promoted" in ask(
        "operator", **switchover, node=before["primary"]
    ).body["hint"]  # fmt: skip

    for _ in range(2):  # asked again under its key, it is the same one
        answer = ask("operator", "wish/1", **switchover)
        assert (answer.status, answer.headers["location"]) == (202, "/operations/wish%2F1")
        assert (answer.body["operation"], answer.body["operator"]) == ("wish/1", "operator")
    until(lambda: server.ask("/operations/wish%2F1").body["outcome"] == "done", 60, "it is done")
    after = server.ask(f"/scopes/{registry}").body
    assert (after["primary"], int(after["epoch"])) == (other, int(before["epoch"]) + 1)
    assert after["decision"]["operation_id"] == "wish/1"
    assert [w["operation"] for w in server.ask("/operations").body["wishes"]] == ["wish/1"]
    seen = partial(matching, entries(server.log), "AskedOverHttp", who="operator", role="operator")
    assert len(seen(about=f"switchover {registry}", id="wish/1", status=202)) == 2
    assert seen(about="drain eu-tm-9", status=404, code="not_found")
    assert matching(entries(server.log), "AskedOverHttp", who="viewer", code="forbidden")


def test_what_does_not_fit_is_refused_by_name_and_nothing_is_sent(server: Server) -> None:
    def refused(body: Any, **more: Any) -> tuple[int, str]:
        options = {"role": "operator", "method": "POST", "body": body} | more
        answer = server.ask("/commands/DepositStake", **options)
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status, answer.body["code"]

    assert refused({"id": "m", "data": {"amount_micro": True}}) == (422, "bad_field")
    assert refused({"id": "m", "data": {"amount_micro": 1.5}}) == (422, "bad_field")
    assert refused({"id": "", "data": {"amount_micro": 1}}) == (422, "bad_field")
    assert refused({"id": "m", "data": {"amount_micro": 1, "x": 1}}) == (422, "bad_field")
    assert refused({"id": "m\x00", "data": {"amount_micro": 1}})[1] == "bad_field"
    whole = {"Content-Type": "application/json"}
    for body in (b"[]", b"1", b"", b"[" * 5000, b'{"id": NaN}'):
        assert refused(body, headers=whole) == (422, "bad_field")
    assert refused(b"{}") == (415, "not_json")
    assert refused(b"{" * 200_000, headers=whole)[0] == 413
    good = {"id": "m", "data": {"amount_micro": 1}}
    assert refused(good, headers={"Origin": "http://elsewhere"}) == (403, "cross_site")
    assert refused(good, headers={"Host": "elsewhere"}) == (421, "wrong_host")
    cookie = {"Cookie": f"everlode_token={TOKENS['admin']}"}
    assert refused(good, role=None, headers=cookie) == (401, "unauthorized")
    assert server.ask("/tasks/" + "x" * 321).status == 422
    assert server.ask("/tasks/%00").status == 422
    assert server.ask("/scopes", method="DELETE").status == 405


def test_listener_resumes_exactly_also_on_another_server(
    region: Region, server: Server, tmp_path: Path
) -> None:
    live = server.listen("?of=miners&type=MinerRegistered")
    begin = live.id
    for n in range(6):
        register(server, f"m-live-{n}")
    seen = [live.until("MinerRegistered")[-1] for _ in range(6)]
    live.close()
    subjects = [event.data["subject"] for event in seen]
    assert sorted(subjects) == [f"eu/m-live-{n}" for n in range(6)]
    assert isinstance(seen[0].data["stamp"], str)
    with open_server(region, tmp_path) as other:
        until(lambda: other.ask("/readyz").status == 200, 60, "it is ready")
        query = "?of=miners&type=MinerRegistered"
        for after, last in enumerate([begin, *(event.id for event in seen[:-1])]):
            resumed = other.listen(query, last)
            assert resumed.first.kind == ""
            rest = {resumed.until("MinerRegistered")[-1].data["id"] for _ in subjects[after:]}
            assert rest == {event.data["id"] for event in seen[after:]}
            resumed.close()
        assert other.end() == 0


@pytest.mark.parametrize("spoil", ["nonsense", "~", "cluster", "beyond"])
def test_position_that_cannot_be_had_is_one_stale_event(server: Server, spoil: str) -> None:
    good = server.listen()
    name, cluster, places, offsets = good.id.split("~")
    good.close()
    bad = {
        "nonsense": "nonsense", "~": f"{good.id}~", "cluster": f"{name}~other~{places}~{offsets}",
        "beyond": f"{name}~{cluster}~{places}~{'.'.join(['999999999'] * 2)}",
    }[spoil]  # fmt: skip
    stale = server.listen(last=bad)
    assert (stale.first.kind, stale.first.data["snapshot"]) == ("stale", "/operations")
    stale.close()
    again = server.listen(last=stale.id)
    assert again.first.kind == ""
    again.close()


def test_streams_end_with_the_server_and_it_ends_well(region: Region, tmp_path: Path) -> None:
    with open_server(region, tmp_path) as other:
        until(lambda: other.ask("/readyz").status == 200, 60, "it is ready")
        listener = other.listen()
        assert other.end() == 0
        assert listener.until("nothing") == []
        listener.close()


def test_server_that_is_asked_to_end_before_it_is_ready_ends(
    region: Region, tmp_path: Path
) -> None:
    with open_server(region, tmp_path) as other:
        assert other.end() == 0  # its address was printed a moment ago


def test_half_a_request_holds_nobody_up(server: Server) -> None:
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"GET /scopes HTTP/1.1\r\nHost: x\r\nX: ")
        assert server.ask("/scopes").status == 200
        half.sendall(b"y" * 40_000)
        assert b"400" in half.recv(1000).split(b"\r\n")[0]


def test_dead_letters_are_listed_by_what_they_are_and_no_key_has_stopped(
    region: Region, server: Server
) -> None:
    topic = command_topic("eu", "miners")
    sender = Sender(region.bootstrap)
    sender.send(Record(topic, 0, "junk", b"no command", []))
    assert sender.flush(20) == 0

    def letters(query: str = "") -> Any:
        answer = server.ask(f"/dead-letters?topic={topic}{query}")
        assert answer.status == 200
        return answer.body

    until(lambda: letters()["total"] == "1", 30, "the letter is shown")
    (letter,) = letters()["letters"]
    assert (letter["consumer"], letter["topic"]) == ("primary", topic)
    assert letter["id"] == f"primary/{topic}/0/{letter['offset']}"
    assert letter["status"] == "open"
    assert letters(f"&code={letter['code']}&consumer=primary")["counts"][0]["count"] == "1"
    assert letters("&status=discarded")["letters"] == []
    assert server.ask("/dead-letters?status=nonsense").status == 422
    assert server.ask("/dead-letters?region=xx").status == 404
    keys = server.ask("/stopped-keys").body
    assert (keys["region"], keys["keys"]) == ("eu", [])
    assert server.ask("/stopped-keys?region=xx").status == 404


def test_letter_is_shown_and_has_one_fate_by_whoever_may_decide(
    region: Region, server: Server
) -> None:
    topic, value = command_topic("eu", "miners"), b"no command either"
    sender = Sender(region.bootstrap)
    sender.send(Record(topic, 0, "junk", value, []))
    assert sender.flush(20) == 0

    def ids() -> list[str]:
        found = [raw for raw in region.records(topic) if raw.value == value]
        return [f"primary/{topic}/{raw.partition}/{raw.offset}" for raw in found]

    def show(letter: str) -> Any:
        return server.ask(f"/dead-letters/{letter}")

    def replayed() -> set[str]:
        found = server.ask(f"/dead-letters?topic={topic}&status=replayed").body["letters"]
        return {letter["id"] for letter in found}

    def decide(verb: str, role: str = "operator", **more: Any) -> tuple[int, Any]:
        body = {"verb": verb, "ids": [first], "reason": "a test", **more}
        answer = server.ask("/dead-letters", role=role, method="POST", body=body)
        if "code" in answer.body:
            return answer.status, answer.body["code"]
        return answer.status, answer.body["letters"][0]["status"]

    (first,) = ids()
    until(lambda: show(first).status == 200, 30, "its letter is kept")
    whole = show(quote(first, safe="")).body
    assert (whole["key"], whole["value_hex"]) == ("junk", value.hex())
    assert (whole["decoded"], whole["status"]) == (None, "open")
    assert show(f"primary/{topic}/0/999999").status == 404
    assert decide("replay", "viewer") == (403, "forbidden")
    assert decide("discard", reason=" ") == (422, "no_reason")
    assert decide("burn") == decide("replay", ids=[]) == (422, "bad_field")
    assert decide("replay", ids=[first, "primary/x/0/1"]) == (404, "not_found")
    assert decide("replay", dry_run=True) == (200, "open")
    assert (show(first).body["status"], len(ids())) == ("open", 1)  # nothing was done until here
    assert first not in replayed()
    assert decide("replay") == decide("replay", "admin") == (200, "replayed")
    assert first in replayed()  # who decided is not shown what was
    assert decide("discard") == (409, "replayed")
    assert (show(first).body["operator"], show(first).body["reason"]) == ("operator", "a test")
    _, again = ids()  # once, though it was asked for twice
    until(lambda: show(again).status == 200, 30, "its primary has read it again")
    acts = matching(entries(server.log), "AskedOverHttp", path="/dead-letters", who="operator")
    assert f"replay {first}" in {e["about"] for e in acts if e["status"] == 200}


@pytest.fixture(scope="module")
def described(server: Server) -> Any:
    document = server.ask("/openapi.json").body
    assert document["openapi"].startswith("3.1")
    found = schemathesis.openapi.from_dict(document)
    found.config.update(base_url=server.address)
    return found.exclude(path="/events")  # it never ends


def test_api_is_as_its_document_describes_it(described: Any) -> None:
    """Schemathesis asks every operation, with what its schema allows and what it does not."""
    headers = {"Authorization": f"Bearer {TOKENS['admin']}"}
    asked: list[str] = []
    found: list[str] = []
    for operation in (result.ok() for result in described.get_all_operations()):
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
            def check(case: schemathesis.Case[Any]) -> None:
                asked.append(case.operation.label)
                response = case.call(headers=headers)
                case.validate_response(response, excluded_checks=BEYOND_SCHEMAS, headers=headers)
                assert response.status_code != 500

            try:
                check()
            except Unsatisfiable:
                assert mode == schemathesis.GenerationMode.NEGATIVE  # it has nothing to be wrong
            except FailureGroup as error:
                found += [f"{operation.label}: {failure}" for failure in error.exceptions]
    assert found == []
    assert len(asked) > 100


@pytest.mark.parametrize("query", ["regoin=eu", "region=eu&region=us"])
def test_parameter_that_is_not_known_or_given_twice_is_refused_by_name(
    server: Server, query: str
) -> None:
    answer = server.ask(f"/nodes?{query}")
    assert (answer.status, answer.body["code"]) == (422, "bad_field")
    assert "query.reg" in answer.body["detail"]
    assert "region" in answer.body["hint"]


def test_age_of_the_newest_backup_is_a_metric(region: Region, server: Server) -> None:
    place = Endpoints.load(region.folder / "stack").region("eu")
    made = BackupEnded(
        backup_id="b", backup_type="full-system", bytes=1, records=1,
        cut_stamp=stamp_at(1_700_000_000_500), manifest_sha256=SHA, verified=True, success=True,
    )  # fmt: skip
    with closing(Announcer(place, "backup", "backup-of-the-test")) as announcer:
        announcer.started("eu", "b")
        announcer.ended(made)
    line = 'everlode_backup_cut_timestamp_seconds{region="eu"} 1.7000000005e+09'
    until(lambda: line in server.ask("/metrics").body, 30, "the server has read of it")


def test_metrics_are_in_prometheus_form_and_name_no_task_or_miner(server: Server) -> None:
    submit(server, "metrics-task")
    text = server.ask("/metrics").body
    found = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    scope = (("scope", "task-manager/eu"),)
    assert found["everlode_scope_epoch", scope] >= 1
    assert found["everlode_scope_led", scope] == 1
    assert {value for (name, _), value in found.items() if name == "everlode_up"} == {1}
    names = {name for name, _ in found}
    assert names >= (metrics_of_alerts() | metrics_of_dashboards()) - exported(figures).keys()
    assert found["process_resident_memory_bytes", ()] > 1e6
    assert found["everlode_failovers_total", (*scope, ("success", "false"))] == 0
    damage = (("region", "eu"), ("type", "ForeignWrite"))
    assert found["everlode_health_events_total", damage] == 0  # there before it happens
    lags = [v for (name, _), v in found.items() if name == "everlode_projection_lag_seconds"]
    assert all(lag < 3600 for lag in lags)
    labels = {label for _, labels in found for label, _ in labels}
    assert labels <= {
        "scope", "region", "component", "status", "topic", "part", "success", "type", "kind",
        "stream", "entry", "level",
    }  # fmt: skip
    assert "metrics-task" not in text


def test_each_process_has_the_figures_of_its_kind_and_names_no_task_or_miner(
    region: Region, server: Server
) -> None:
    register(server, "scraped-miner")
    submit(server, "scraped-task")
    until(lambda: server.ask("/miners/scraped-miner").status == 200, 60, "it is projected")
    found = {name: scrape(at) for name, at in targets(region.folder / "metrics").items()}
    kinds = {"eu-co-1", "eu-det-1", "eu-pj-1", "eu-mr-1", "eu-tm-1", "eu-val-1", "eu-rd-1"}
    assert found.keys() >= kinds
    assert not [name for name, text in found.items() if "scraped-" in text]
    figures_by = {name: figures_of(text) for name, text in found.items()}
    manager, projector = figures_by["eu-tm-1"], figures_by["eu-pj-1"]
    assert manager["everlode_node_info", ("task-manager", "eu-tm-1", "eu")] == 1
    assert manager["everlode_node_leads", ("task-manager/eu",)] == 1
    assert manager["everlode_entries_total", ("Led", "info")] >= 1
    assert manager["everlode_facts_appended_total", ("tasks",)] > 0
    assert manager["everlode_commands_answered_total", ("tasks", "done")] > 0
    assert manager["everlode_primary_turn_seconds_count", ("tasks",)] > 0
    assert projector["everlode_projector_records_total", ("live",)] > 0
    assert projector["everlode_projector_batch_seconds_count", ("eu",)] > 0
    assert figures_by["eu-det-1"]["everlode_node_work_done_total", ()] > 0
    assert figures_by["eu-co-1"]["everlode_entries_total", ("Decided", "info")] > 0
    assert all(process["process_open_fds", ()] > 3 for process in figures_by.values())
    names = {name for process in figures_by.values() for name, _ in process}
    elsewhere = {n for n in exported(figures) if "_stack_" in n or "_actors_" in n}
    ours = {n for n in names if n.startswith("everlode_")}
    assert ours | {"everlode_detector_verdicts_total"} == exported(figures).keys() - elsewhere


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_narrow_window_and_a_form_lets_in(
    server: Server, browser: Browser, scheme: Any
) -> None:
    page, complaints = opened(browser, viewport={"width": 320, "height": 700}, color_scheme=scheme)
    page.goto(server.address)
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not one of")
    complaints.clear()  # a browser notes that the answer was 401
    page.get_by_label("Token").fill(TOKENS["viewer"])
    page.keyboard.press("Enter")
    expect(page.locator("#link")).to_have_text("live")
    assert width_of(page) <= 320
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.evaluate("document.cookie") == ""
    assert complaints == []
    page.close()
    signed = matching(entries(server.log), "AskedOverHttp", path="/sign-in")
    assert [(e["status"], e["about"], e["code"]) for e in signed[-2:]] == [
        (401, "", "unauthorized"), (303, "viewer", ""),
    ]  # fmt: skip
    assert TOKENS["viewer"] not in server.log.read_text()


REGISTRY = "miner-registry/eu"
ELSEWHERE = "http://127.0.0.1:9/"
"""Another server of the same host: to a browser the same site, whose forms bring our cookie."""


def signed_in(server: Server, page: Page, role: str) -> None:
    page.goto(server.address)
    page.get_by_label("Token").fill(TOKENS[role])
    page.keyboard.press("Enter")
    expect(page.locator("#link")).to_have_text("live")


def decide(page: Page, name: str, verb: str, typed: str | None = None) -> None:
    page.get_by_role("link", name=name).click()
    page.get_by_role("radio", name=verb).check()
    page.get_by_label("to confirm").fill(name if typed is None else typed)
    page.keyboard.press("Enter")


def test_operator_acts_from_the_page_by_typing_the_name_and_no_other_site_can(
    server: Server, browser: Browser
) -> None:
    def primary() -> str:
        return str(server.ask(f"/scopes/{REGISTRY}").body["primary"])

    page, complaints = opened(browser, viewport={"width": 320, "height": 700})
    signed_in(server, page, "operator")
    before, known = primary(), len(server.ask("/operations").body["wishes"])
    decide(page, REGISTRY, "switchover", "task-manager/eu")
    expect(page.get_by_role("alert")).to_contain_text(f"type {REGISTRY}")
    assert width_of(page) <= 320
    assert "422" in complaints.pop()  # a browser notes the status
    page.goto(server.address)
    assert len(server.ask("/operations").body["wishes"]) == known
    decide(page, REGISTRY, "pause")
    row = page.locator(f"[data-scope='{REGISTRY}']")
    expect(row).to_contain_text("failover is paused by operator")
    decide(page, REGISTRY, "resume")
    expect(row).not_to_contain_text("paused")
    decide(page, before, "ack")  # of a node that is well: refused, with the reason
    expect(page.get_by_role("alert")).to_contain_text("nothing to acknowledge")
    assert "409" in complaints.pop()
    page.get_by_role("link", name="Back").click()
    decide(page, REGISTRY, "switchover")
    wish = page.locator("[data-wish]").first
    expect(wish).to_contain_text("switchover")
    expect(wish.locator("td").last).to_contain_text("done", timeout=60_000)
    expect(row.locator("td").nth(1)).not_to_have_text(before)
    after = primary()
    assert after != before
    assert complaints == []
    seen = partial(matching, entries(server.log), "AskedOverHttp", path="/act", who="operator")
    acts = [e["about"].partition(" ")[0] for e in seen(status=303)]
    assert acts == ["pause", "resume", "switchover"]

    key = page.locator("[name=key]").first.get_attribute("value")
    fields = {"key": key, "scope": REGISTRY, "verb": "switchover", "confirm": REGISTRY}
    form = "".join(f"<input name={name} value='{value}'>" for name, value in fields.items())
    text = f"<form method=post action={server.address}/act>{form}<button>Win</button></form>"
    page.route(ELSEWHERE, lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto(ELSEWHERE)
    page.get_by_role("button").click()
    expect(page.locator("body")).to_contain_text("cross_site")
    assert primary() == after
    page.goto(server.address)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.context.cookies() == []
    page.close()


def test_pages_explain_a_scope_and_a_task_to_a_viewer_in_a_narrow_window(
    server: Server, browser: Browser
) -> None:
    task = "eu/pages/a?b#c"
    assert submit(server, task).status == 200
    page, complaints = opened(browser, viewport={"width": 320, "height": 700})
    signed_in(server, page, "viewer")
    expect(page.locator("[data-health]")).to_contain_text("health", timeout=30_000)
    page.locator(f"[data-scope='{REGISTRY}']").get_by_role("link", name="why").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(REGISTRY)
    led = server.ask(f"/primary/{REGISTRY}").body["primary"]
    expect(page.locator("[data-led]")).to_contain_text(f"{led} leads it")
    for node in ("eu-mr-1", "eu-mr-2"):
        expect(page.get_by_role("rowheader", name=node).first).to_be_visible()
    expect(page.locator("tr").filter(has_text="bootstrap").last).to_be_visible()
    assert width_of(page) <= 320
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    until(lambda: server.ask("/tasks/" + quote(task, safe="")).status == 200, 60, "projected")
    page.get_by_role("link", name="A task", exact=True).click()
    page.get_by_label("Task").fill(task)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(task)
    expect(page.locator("dd").filter(has_text="a miner").first).to_be_visible()
    expect(page.get_by_role("rowheader", name="TaskSubmitted")).to_be_visible()
    assert width_of(page) <= 320
    page.get_by_role("link", name="Figures", exact=True).click()
    tasks = page.locator("[data-figure='task-manager pending tasks']")

    def drawn() -> bool:
        page.reload()
        line = tasks.locator("path").last
        return tasks.count() == 1 and "L" in (line.get_attribute("d") or "")

    until(drawn, 90, "two samples are drawn")
    expect(tasks).to_contain_text(re.compile(r"pending tasks: [\d,]+ "))
    assert width_of(page) <= 320
    assert tasks.locator("svg").bounding_box()["width"] > 200  # type: ignore[index]
    page.get_by_role("link", name="Dead letters").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters of eu")
    expect(page.locator("main")).to_contain_text("Keys at which the projection has stopped")
    assert page.get_by_role("alert").count() == 0
    assert complaints == []
    page.close()


def test_viewer_is_shown_no_form_and_its_own_key_does_not_make_it_act(
    server: Server, browser: Browser
) -> None:
    page, _ = opened(browser)
    signed_in(server, page, "viewer")
    key = page.locator("[name=key]").first.get_attribute("value")
    before = len(server.ask("/operations").body["wishes"])
    page.get_by_role("link", name=REGISTRY).click()
    expect(page.locator("main")).to_contain_text("yours only looks")
    assert page.locator("form").count() == 0
    fields = {"key": key, "scope": REGISTRY, "verb": "pause", "confirm": REGISTRY}
    asked = "body => fetch('/act', {method: 'POST', body: new URLSearchParams(body)})"
    assert page.evaluate(f"({asked})(%s).then(a => a.status)" % json.dumps(fields)) == 403
    assert len(server.ask("/operations").body["wishes"]) == before
    refused = matching(entries(server.log), "AskedOverHttp", path="/act", who="viewer")
    assert [(e["status"], e["code"]) for e in refused] == [(403, "forbidden")]
    page.close()


def test_node_that_is_killed_is_seen_by_the_page_a_listener_and_metrics(
    region: Region, server: Server, browser: Browser
) -> None:
    page, complaints = opened(browser)
    page.set_extra_http_headers({"Authorization": f"Bearer {TOKENS['viewer']}"})
    page.goto(server.address)
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("[data-health]")).to_contain_text("health", timeout=30_000)
    shot(page, "overview")
    page.evaluate("window.loaded = 'once'")
    listener = server.listen("?scope=miner-registry/eu")
    led = server.ask("/primary/miner-registry/eu").body
    killed = led["primary"]
    other = {"eu-mr-1": "eu-mr-2", "eu-mr-2": "eu-mr-1"}[killed]
    expect(page.locator(f"[data-node={killed}] td").nth(1)).to_have_text("healthy")
    next(n for n in region.nodes if n.log.name.startswith(killed)).kill()
    row = page.locator("[data-scope='miner-registry/eu'] td")
    expect(row.nth(1)).to_have_text(other, timeout=60_000)
    expect(page.locator(f"[data-node={killed}] td").nth(1)).to_have_text(
        re.compile("lost|fenced"), timeout=10_000
    )
    line = page.locator("#line li").filter(has_text="RegistryRecoveryEnded").first
    expect(line).to_be_visible(timeout=60_000)
    assert page.evaluate("window.loaded") == "once"
    started = page.locator("#line li").filter(has_text="OperationStarted").first.inner_text()
    line.scroll_into_view_if_needed()
    shot(page, "failover")
    assert complaints == []
    page.close()
    events = listener.until("RegistryRecoveryEnded")
    listener.close()
    kinds = [event.data["type"].removeprefix("everlode.") for event in events]
    assert "NodeLost" in kinds
    assert kinds.index("OperationStarted") < kinds.index("OperationStep") < len(kinds) - 1
    operation = events[-1].data["operation"]
    found = server.ask("/operations/" + quote(operation, safe="")).body
    assert (found["subject"], found["success"]) == (killed, True)
    assert found["evidence"][0]["note"] in started
    assert len(found["steps"]) == kinds.count("OperationStep")
    again = server.listen(f"?operation={quote(operation)}", last=found["position"])
    again.close()
    answer = server.ask("/primary/miner-registry/eu").body
    # operators may have moved the scope in other tests, which is no failover
    assert (answer["primary"], int(answer["epoch"])) == (other, int(led["epoch"]) + 1)
    page, _ = opened(browser)
    signed_in(server, page, "operator")
    decide(page, killed, "ack")
    expect(page.locator(f"[data-node={killed}]")).to_contain_text("seen by operator")
    page.close()
    counted = 'everlode_failovers_total{scope="miner-registry/eu",success="true"} 1.0'
    assert counted in server.ask("/metrics").body
    resumed = server.listen("?scope=miner-registry/eu", last=events[0].id)
    rest = resumed.until("RegistryRecoveryEnded")
    resumed.close()
    assert [e.data["id"] for e in rest] == [e.data["id"] for e in events[1:]]


def test_page_of_a_server_that_is_gone_says_how_old_it_is(
    region: Region, browser: Browser, tmp_path: Path
) -> None:
    log = tmp_path / "serve.log"
    with Server(region.folder / "stack", log, "--insecure") as other:
        until(lambda: other.ask("/readyz").status == 200, 60, "it is ready")
        page, _ = opened(browser)
        page.goto(other.address)
        expect(page.locator("#link")).to_have_text("live")
        assert other.end() == 0
    expect(page.locator("#state")).to_contain_text("s old", timeout=30_000)
    expect(page.locator("#link")).to_contain_text("not connected")
    page.close()
