"""A mining service's suite: the loss of the process that leads the tasks costs none of them.

pytest -p everlode.pytest_plugin examples/test_mining_service.py
"""

from __future__ import annotations

from everlode.events.recovery import TaskManagerRecoveryEnded
from everlode.pytest_plugin.network import Faults, RecoveryEvents, Region
from everlode.sdk import MiningClient


def submit(client: MiningClient, name: str) -> str:
    """Submit a task; returns its id once it is in the log."""
    answer = client.submit_task(name, "inference", f"s3://work/{name}", "0" * 64, 64)
    assert answer.outcome == "done"
    return answer.aggregate_id


def test_no_task_is_lost_with_the_primary(
    everlode_region: Region,
    everlode_client: MiningClient,
    everlode_events: RecoveryEvents,
    everlode_faults: Faults,
) -> None:
    before = [submit(everlode_client, f"before-{n}") for n in range(5)]
    lost = everlode_region.primary("tasks")
    everlode_faults.kill(lost)
    after = submit(everlode_client, "after")  # waits for the successor, and is answered by it
    ended = everlode_events.wait(TaskManagerRecoveryEnded)
    assert ended.data.failed_node == lost.replace("/", "-")
    assert everlode_region.primary("tasks") != lost
    for task in (*before, after):
        assert next(iter(everlode_client.watch(task))).status == "submitted"
