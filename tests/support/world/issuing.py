"""A small OpenID Connect issuer over HTTP: its document, its keys, and tokens that it signs."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

AUDIENCE = "everlode"
Key = RSAKey | ECKey


class SmallIssuer:
    """It serves what it is set to; `asked` counts how often its keys were asked for."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.down = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer._answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/realm"
        self.named = self.url
        """What it calls itself."""

    def __enter__(self) -> SmallIssuer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        found: dict[str, Any] = {"issuer": self.named, "jwks_uri": f"{self.url}/keys"}
        if handler.path == "/realm/keys":
            self.asked += 1
            found = {"keys": self.keys}
        body = json.dumps(found).encode()
        handler.send_response(503 if self.down else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def new_key(self, kid: str, kind: str = "RSA", size: int = 2048) -> Key:
        """A key; `publish` makes it known."""
        if kind == "RSA":
            return RSAKey.generate_key(size, {"kid": kid})
        return ECKey.generate_key("P-256", {"kid": kid})

    def publish(self, *keys: Key) -> None:
        """From now on these are its keys."""
        self.keys = [key.as_dict(private=False) for key in keys]

    def token(self, key: Key, alg: str = "RS256", **changed: Any) -> str:
        """A token of Ann's, an operator; None takes a claim away."""
        claims = {
            "iss": self.url, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 300,
            "roles": ["operator"],
        } | changed  # fmt: skip
        header = {"alg": alg, "kid": key.kid}
        there = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(header, there, key, algorithms=[alg])
