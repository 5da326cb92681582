"""What a network runs on: the port of a provider, and who implements it.

Names are loaded when they are first asked for: the preparation of a stack in containers runs there,
where what the native stack is started from is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everlode.settings.endpoints import Endpoints, RegionEndpoints, S3Endpoint
    from everlode.stack.compose.stack import ComposeStack
    from everlode.stack.external import ExternalStack
    from everlode.stack.native.stack import NativeStack
    from everlode.stack.native.start import Limits
    from everlode.stack.provider import ProcessStatus, StackProvider

_HOMES = {
    "Endpoints": "everlode.settings.endpoints",
    "RegionEndpoints": "everlode.settings.endpoints",
    "S3Endpoint": "everlode.settings.endpoints",
    "ComposeStack": "everlode.stack.compose.stack",
    "ExternalStack": "everlode.stack.external",
    "NativeStack": "everlode.stack.native.stack",
    "Limits": "everlode.stack.native.start",
    "ProcessStatus": "everlode.stack.provider",
    "StackProvider": "everlode.stack.provider",
}

__all__ = [
    "ComposeStack", "Endpoints", "ExternalStack", "Limits", "NativeStack", "ProcessStatus",
    "RegionEndpoints", "S3Endpoint", "StackProvider",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(_HOMES[name]), name)
