"""What a network runs on: the port of a provider, and the native one with its supervisor."""

from everlode.settings.endpoints import Endpoints, RegionEndpoints, S3Endpoint
from everlode.stack.native.stack import NativeStack
from everlode.stack.native.start import Limits
from everlode.stack.provider import ProcessStatus, StackProvider

__all__ = [
    "Endpoints", "Limits", "NativeStack", "ProcessStatus", "RegionEndpoints", "S3Endpoint",
    "StackProvider",
]  # fmt: skip
