"""Stack providers: what gives a topology its brokers, mirrors, databases and object store."""

from everlode.stack.endpoints import Endpoints, RegionEndpoints, S3Endpoint
from everlode.stack.native import NativeStack, ProcessStatus
from everlode.stack.start import Limits

__all__ = ["Endpoints", "Limits", "NativeStack", "ProcessStatus", "RegionEndpoints", "S3Endpoint"]
