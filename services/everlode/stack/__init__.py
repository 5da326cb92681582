"""Stack providers: `NativeStack` starts a whole network's parts as processes of this machine.

The names are loaded when they are asked for: a node needs `Endpoints` only, and starts quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everlode.stack.endpoints import Endpoints, RegionEndpoints, S3Endpoint
    from everlode.stack.native import NativeStack, ProcessStatus
    from everlode.stack.start import Limits

__all__ = ["Endpoints", "Limits", "NativeStack", "ProcessStatus", "RegionEndpoints", "S3Endpoint"]
_MODULES = {"NativeStack": "native", "ProcessStatus": "native", "Limits": "start"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(name)
    return getattr(import_module(f"everlode.stack.{_MODULES.get(name, 'endpoints')}"), name)
