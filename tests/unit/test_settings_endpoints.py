"""What is not in the endpoints is named, with what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlode.errors import ConfigError
from everlode.settings.endpoints import Endpoints, RegionEndpoints
from everlode.topics import Topology

EU = RegionEndpoints(
    kafka_bootstrap="k:1", postgres_dsn="postgresql://u@p/d", postgres_password_file=Path("pw"),
    origin="eu.1",
)  # fmt: skip
US = EU.model_copy(update={"origin": "us.1"})
STACK = Endpoints(
    topology=Topology(regions=("eu", "us"), partitions=3), regions={"eu": EU, "us": US},
    control_bootstrap="c:1", s3=None,
)  # fmt: skip


def test_region_and_control_cluster_that_are_there_are_given() -> None:
    assert STACK.region("eu") == EU
    assert STACK.control() == "c:1"


def test_parts_of_a_region_are_as_the_topology_says() -> None:
    assert STACK.parts("us") == ("us", "us.1", "k:1", 3)
    with pytest.raises(ConfigError, match="region 'mars'"):
        STACK.parts("mars")


def test_unknown_region_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="region 'mars'") as caught:
        STACK.region("mars")
    assert caught.value.hint == "there are: eu, us"


def test_stack_without_a_control_cluster_is_told_so() -> None:
    with pytest.raises(ConfigError, match="no control cluster"):
        STACK.model_copy(update={"control_bootstrap": None}).control()
