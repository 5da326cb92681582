"""Stack providers: `NativeStack` starts a whole network's parts as processes of this machine.

The names are loaded when they are asked for: a node needs `Endpoints` only, and starts quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everlode.stack.endpoints import Endpoints, RegionEndpoints, S3Endpoint
    from everlode.stack.native import NativeStack

__all__ = ["Endpoints", "NativeStack", "RegionEndpoints", "S3Endpoint"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(name)
    module = "native" if name == "NativeStack" else "endpoints"
    return getattr(import_module(f"everlode.stack.{module}"), name)
