"""Stack providers: what a network runs on. `NativeStack` starts it as processes of this machine."""

from everlode.settings.endpoints import Endpoints, RegionEndpoints, S3Endpoint
from everlode.stack.native.stack import NativeStack, ProcessStatus
from everlode.stack.native.start import Limits

__all__ = ["Endpoints", "Limits", "NativeStack", "ProcessStatus", "RegionEndpoints", "S3Endpoint"]
