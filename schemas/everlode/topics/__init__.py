"""The topic catalogue: names, partitions and settings of every topic in every cluster."""

from everlode.topics.catalogue import (
    TopicSpec,
    catalogue,
    mirrored_topics,
    state_topics,
)
from everlode.topics.topology import Topology

__all__ = ["TopicSpec", "Topology", "catalogue", "mirrored_topics", "state_topics"]
