"""What every object store must do; each capability is asserted where it is, and where it is not."""

from __future__ import annotations

import io

import pytest

from everlode.adapters.object_store import ObjectStore, Stored
from everlode.errors import NotFound, Precondition


class StoreContract:
    """One suite; a subclass gives `store` (empty) and `conditional`."""

    conditional: bool
    """Whether the store honours If-None-Match."""
    versioning = False
    object_lock = False

    def test_get_gives_what_was_put(self, store: ObjectStore) -> None:
        for data in (b"", b"x", bytes(range(256)) * 20_000):
            store.put("a/one", data)
            assert store.get("a/one") == data

    def test_files_go_and_come_whole(self, store: ObjectStore) -> None:
        source, target = io.BytesIO(), io.BytesIO()
        source.write(b"0123456789" * 800_000)  # above one part of a multipart upload
        store.put_file("a/file", source)
        store.get_file("a/file", target)
        assert target.getvalue() == source.getvalue()

    def test_missing_object_is_not_found(self, store: ObjectStore) -> None:
        with pytest.raises(NotFound, match="a/none"):
            store.get("a/none")
        with pytest.raises(NotFound, match="a/none"):
            store.get_file("a/none", io.BytesIO())

    def test_list_is_by_prefix_and_in_order(self, store: ObjectStore) -> None:
        for key in ("a/z", "a/b/c", "b/x", "a/a"):
            store.put(key, b"12")
        assert list(store.list("a/")) == [Stored("a/a", 2), Stored("a/b/c", 2), Stored("a/z", 2)]
        assert list(store.list("none/")) == []

    def test_delete_removes_and_may_be_repeated(self, store: ObjectStore) -> None:
        store.put("a/one", b"1")
        store.delete("a/one")
        store.delete("a/one")
        with pytest.raises(NotFound):
            store.get("a/one")

    def test_capabilities_are_probed_and_leave_nothing(self, store: ObjectStore) -> None:
        found = store.capabilities()
        assert found == (self.conditional, self.versioning, self.object_lock)
        assert list(store.list("")) == []

    def test_only_new_is_as_the_capability_says(self, store: ObjectStore) -> None:
        store.put("a/once", b"first", only_new=True)
        store.put("a/once", b"first", only_new=True)  # as after an answer that was lost
        if self.conditional:
            with pytest.raises(Precondition, match="never overwritten"):
                store.put("a/once", b"second", only_new=True)
            assert store.get("a/once") == b"first"
        else:  # accepted and ignored: why a capability is never assumed
            store.put("a/once", b"second", only_new=True)
            assert store.get("a/once") == b"second"
