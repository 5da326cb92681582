"""`everlode miner explain|reinstate`: what a miner is and gets, and its suspension lifted."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from everlode.cli.explained import explain_one
from everlode.cli.options import Dir, Json, Region, SeenFrom, noun, stack_dir
from everlode.events.commands import ReinstateMiner
from everlode.sdk.client import MiningClient
from everlode.settings.endpoints import Endpoints

app = noun("Miners.")

MinerId = Annotated[str, typer.Argument(metavar="ID", help="The miner's id.")]


@app.command()
def explain(
    miner_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The miner's id, or its name where one home alone has it."
        ),
    ],
    seen_from: SeenFrom = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show a miner's state, its last events with their places, and what it works on.

    Of the tasks that wait in its region: how many it may take, and how many not, by reason. Exit
    code 10 when no projection has the miner. Example: everlode miner explain eu/miner-1 --json
    """
    explain_one("miners", miner_id, seen_from, folder, as_json)


@app.command()
def reinstate(
    miner_id: MinerId,
    region: Region,
    operator: Annotated[
        str, typer.Option("--by", help="Operator that the topology names (operators).")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the log.")],
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Let a suspended miner have tasks again; one for fraud in an operator's name only.

    Shows the fact, or that the miner was active; a refusal ends with 1 (operator_needed: the
    topology names no such operator), no answer with 124.
    Example: everlode miner reinstate eu/miner-1 --region eu --by ops-1 --reason "appeal granted"
    """
    command = ReinstateMiner(reason=reason, decided_by=operator)
    endpoints = Endpoints.load(stack_dir(folder))
    with MiningClient(endpoints, region, f"operator-{operator}", timeout_s=30) as client:
        answer = client.call(miner_id, command)
    if as_json:
        typer.echo(json.dumps(answer.model_dump(mode="json"), indent=2))
        return
    done = [
        f"{fact.event_type} {fact.topic}/{fact.partition}@{fact.offset}" for fact in answer.facts
    ]
    typer.echo(f"{miner_id}: {', '.join(done) or 'was active, nothing changed'}")
