"""Settings of a Kafka node that lets in who proves itself, and lets it do what its ACLs say.

Clients come over TLS with SCRAM; the stack itself, and each broker, with PLAIN in the same TLS, as
a super user whose secret is in the node's own settings: a file of mode 0600. So a new node needs
nothing in its log to be asked. Nodes know each other as controllers by their certificates. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from everlode.access.login import MECHANISM

OWN_USER = "everlode"
"""The stack's own super user; also the name in the certificates of its nodes."""
LISTENER = "CLIENT"
_MODULE = "org.apache.kafka.common.security"


class NodeKeys(NamedTuple):
    """What a node proves itself by."""

    ca: Path
    """PEM file of the authority that signed all nodes."""
    keystore: Path
    """PEM file with the node's key, then its certificate."""
    secret: str
    """Of OWN_USER."""


def secured(settings: Mapping[str, object], keys: NodeKeys) -> dict[str, object]:
    """`settings` of `node_settings`, over TLS, with users and rights. They hold the secret."""
    login = f'username="{OWN_USER}" password="{keys.secret}" user_{OWN_USER}="{keys.secret}"'
    of = f"listener.name.{LISTENER.lower()}"
    heard = {
        name: str(settings[name]).replace("PLAINTEXT://", f"{LISTENER}://")
        for name in ("listeners", "advertised.listeners")
    }
    return {
        **settings,
        **heard,
        "inter.broker.listener.name": LISTENER,
        "listener.security.protocol.map": f"{LISTENER}:SASL_SSL,CONTROLLER:SSL",
        "sasl.enabled.mechanisms": f"{MECHANISM},PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        f"{of}.plain.sasl.jaas.config": f"{_MODULE}.plain.PlainLoginModule required {login};",
        f"{of}.{MECHANISM.lower()}.sasl.jaas.config": f"{_MODULE}.scram.ScramLoginModule required;",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{OWN_USER};User:CN={OWN_USER}",
        "allow.everyone.if.no.acl.found": "false",
        "listener.name.controller.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keys.keystore,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": keys.ca,
    }
