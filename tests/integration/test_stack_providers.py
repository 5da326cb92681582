"""The contract of stack providers on native processes, and on what somebody else runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everlode.errors import Refusal, Unavailable
from everlode.settings.endpoints import FILE_NAME
from everlode.stack import ExternalStack, NativeStack, StackProvider
from tests.support.world.provider_contract import VERBS, ProviderContract, serves

pytestmark = pytest.mark.timeout(240)


class TestNative(ProviderContract):
    @pytest.fixture(scope="class")
    @staticmethod
    def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProvider]:
        with NativeStack.small(tmp_path_factory.mktemp("native") / "stack") as stack:
            stack.up()
            yield stack
            stack.down(at_once=True)

    def another(self, stack: StackProvider) -> StackProvider:
        assert isinstance(stack, NativeStack)
        return NativeStack.small(stack.data_dir)


class TestExternal:
    """Over a native stack, which it must not touch."""

    @pytest.fixture(scope="class")
    @staticmethod
    def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeStack]:
        with NativeStack.small(tmp_path_factory.mktemp("theirs") / "stack") as stack:
            stack.up()
            yield stack
            stack.down(at_once=True)

    @pytest.fixture
    @staticmethod
    def stack(native: NativeStack, tmp_path: Path) -> ExternalStack:
        return ExternalStack(native.data_dir / FILE_NAME, tmp_path / "ours")

    def test_up_asks_all_and_keeps_the_endpoints(
        self, stack: ExternalStack, native: NativeStack
    ) -> None:
        assert stack.up() == native.endpoints
        assert (stack.data_dir / FILE_NAME).exists()
        assert stack.processes() == []
        stack.down()
        assert serves(native, "eu/kafka"), "it runs on"

    @pytest.mark.parametrize("verb", VERBS)
    def test_it_breaks_and_mends_nothing(self, stack: ExternalStack, verb: str) -> None:
        stack.up()
        with pytest.raises(Refusal, match="eu/kafka") as caught:
            getattr(stack, verb)("eu/kafka")
        assert caught.value.code == "not_ours"
        with pytest.raises(Refusal):
            stack.set_mirror_sources("eu", ())

    def test_part_that_is_silent_is_named(self, stack: ExternalStack, native: NativeStack) -> None:
        native.stop("eu/postgres")
        try:
            with pytest.raises(Unavailable, match=r"eu/postgres of .*endpoints\.json") as caught:
                stack.up()
        finally:
            native.restart("eu/postgres")
        assert caught.value.code == "part_silent"
        assert stack.endpoints is None
