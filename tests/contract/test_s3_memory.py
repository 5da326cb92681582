"""The store contract on the fake that other tests use."""

from __future__ import annotations

import pytest

from tests.support.stores.memory_store import MemoryStore
from tests.support.stores.store_contract import StoreContract


class TestWithConditionalPut(StoreContract):
    conditional = True

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestWithoutConditionalPut(StoreContract):
    conditional = False

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(conditional=False)
