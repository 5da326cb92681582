"""What waits to be appended, and the ids that it gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from everlode.sdk.emits import IDS, RandomIds


def test_random_ids_are_uuids_of_version_4_and_each_is_drawn_once() -> None:
    ids = RandomIds()
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda _: ids.draw(), range(IDS * 40)))
    assert len(set(drawn)) == len(drawn)
    assert {UUID(text).version for text in drawn} == {4}
    assert all(str(UUID(text)) == text for text in drawn)


def test_two_makers_give_other_ids() -> None:
    one, other = ({ids.draw() for _ in range(IDS)} for ids in (RandomIds(), RandomIds()))
    assert not one & other
