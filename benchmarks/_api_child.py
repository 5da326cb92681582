"""Who submits tasks, in a process of its own: over HTTP, or by the bare SDK.

`http ADDRESS` or `sdk STACK REGION`. Prints `ready`; for each line on standard input, {"prefix",
"rate", "seconds"}, submits so many tasks at that rate, each when it is due and whatever became of
those before it, and prints a JSON list of milliseconds: from due to answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import aiohttp

from everlode.events.commands import SubmitTask
from everlode.sdk import AsyncMiningClient
from everlode.settings.endpoints import Endpoints

Submit = Callable[[str], Awaitable[None]]
COMMAND = SubmitTask(
    client_id="bench", task_type="inference", payload_uri="s3://x", payload_sha256="0" * 64,
    payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1, base_reward_micro=1000,
    max_attempts=3,
    deadline_at=datetime.now(UTC).replace(microsecond=0) + timedelta(days=30),
)  # fmt: skip


@asynccontextmanager
async def over_http(address: str) -> AsyncIterator[Submit]:
    """Connections are kept; the body is the same command."""
    data = json.loads(COMMAND.model_dump_json())
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connections) as session:

        async def submit(task: str) -> None:
            asked = session.post(
                f"{address}/commands/SubmitTask", json={"id": task, "data": data},
                headers={"Idempotency-Key": f"submit-{task}"},
            )  # fmt: skip
            async with asked as answer:
                body = await answer.json(content_type=None)
                if answer.status != HTTPStatus.OK or body["outcome"] != "done":
                    raise RuntimeError(f"{answer.status}: {body}")

        yield submit


@asynccontextmanager
async def by_sdk(stack: str, region: str) -> AsyncIterator[Submit]:
    """What the server calls, too."""
    async with AsyncMiningClient(Endpoints.load(stack), region, "bench") as client:

        async def submit(task: str) -> None:
            answer = await client.call(task, COMMAND, command_id=f"submit-{task}", timeout_s=30.0)
            if answer.outcome != "done":
                raise RuntimeError(str(answer))

        yield submit


async def load(submit: Submit, prefix: str, rate: float, seconds: float) -> list[float]:
    """Milliseconds of each."""
    began = time.monotonic() + 0.1

    async def one(number: int) -> float:
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await submit(f"{prefix}-{number}")
        return (time.monotonic() - due) * 1000

    return list(await asyncio.gather(*(one(number) for number in range(int(rate * seconds)))))


async def main(what: str, *words: str) -> None:
    """See above."""
    ways: dict[str, Any] = {"http": over_http, "sdk": by_sdk}
    async with ways[what](*words) as submit:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await load(submit, **json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
