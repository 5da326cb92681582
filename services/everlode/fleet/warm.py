"""Done once before processes are forked: every schema is read and compiled."""

from everlode.avro.codec import Codec

Codec()
