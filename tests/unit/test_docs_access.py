"""docs/access.md has the table of rights as it is enforced; running this file writes it."""

from __future__ import annotations

from pathlib import Path

from everlode.access.acls import acls, topics_of
from everlode.access.rights import COMMANDS, FACTS, KINDS, LETTERS, RIGHTS, SNAPSHOTS
from everlode.events.catalogue import SIGNALS
from everlode.stack.services import ALL
from everlode.topics import Topology, catalogue

DOCUMENT = Path(__file__).parents[2] / "docs/access.md"
BEGIN = "<!-- rights begin: made by tests/unit/test_docs_access.py -->"
END = "<!-- rights end -->"
ALL_OF = {
    "all": KINDS, "commands.*": COMMANDS, "facts.*": FACTS, "signals": SIGNALS,
    "snapshots.*": SNAPSHOTS, "letters.*": LETTERS,
}  # fmt: skip
"""What stands in the page for whole groups of kinds, the widest first."""
TWO = Topology(regions=("eu", "us"))


def said(kinds: tuple[str, ...]) -> str:
    left, names = list(kinds), list[str]()
    for name, members in ALL_OF.items():
        if set(members) <= set(left):
            names.append(name)
            left = [kind for kind in left if kind not in members]
    return ", ".join([*names, *left]) or "–"


def table() -> str:
    rows = [
        "| principal | who | reads | writes | makes | groups | transactions |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in RIGHTS:
        begins = (
            ", ".join(f"`{name}`" for name in names) or "–"
            for names in (one.groups, one.transactions)
        )
        cells = (
            f"`{one.principal}`",
            one.who,
            said(one.reads),
            said(one.writes),
            said(one.makes),
            *begins,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def written(text: str) -> str:
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert begin, "where the table begins is not marked"
    assert end, "where it ends is not marked"
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def test_document_has_the_table_of_rights() -> None:
    text = DOCUMENT.read_text()
    assert text == written(text), "run: python tests/unit/test_docs_access.py"


def test_every_topic_of_the_catalogue_is_of_exactly_one_kind() -> None:
    for spec in catalogue(TWO):
        kinds = [
            kind
            for kind in KINDS
            for names in [topics_of(kind, TWO, spec.cluster)]
            if spec.name in names.exact or spec.name.startswith(names.beginnings or ("\0",))
        ]
        assert len(kinds) == 1, (spec.name, kinds)


def test_every_kind_of_process_of_a_region_is_a_principal() -> None:
    assert ALL.keys() <= {one.principal for one in RIGHTS}


def test_a_fact_topic_has_one_principal_that_writes_it() -> None:
    for kind in FACTS:
        assert len([one for one in RIGHTS if kind in one.writes]) == 1


def test_commands_are_written_by_programs_outside_judges_operators_and_who_moves_tasks() -> None:
    writers = {one.principal for one in RIGHTS if set(one.writes) & set(COMMANDS)}
    outside = {"client", "miner", "expert", "serve"}
    assert writers == {*outside, "validator", "operator", "coordinator"}


def test_a_principal_without_a_topic_in_a_cluster_has_no_right_there() -> None:
    there = {acl.principal for acl in acls(TWO, "control")}
    assert "mirror" not in there
    assert {acl.name for acl in acls(TWO, "control") if acl.resource == "TOPIC"} == {
        "control", "control.snapshot",
    }  # fmt: skip


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
