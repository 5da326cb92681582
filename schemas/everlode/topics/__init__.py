"""The topic catalogue: names, partitions and settings of every topic in every cluster."""

from everlode.topics.catalogue import (
    TopicSpec,
    catalogue,
    fact_topics,
    mirrored_topics,
    state_topics,
)
from everlode.topics.topology import Topology

__all__ = ["TopicSpec", "Topology", "catalogue", "fact_topics", "mirrored_topics", "state_topics"]
