"""Avro: single-object codec, fingerprints, compatibility, CloudEvents headers."""
