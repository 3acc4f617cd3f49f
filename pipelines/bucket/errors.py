"""What may go wrong between a bucket and its reader, apart from the object itself being damaged."""

from pipelines.errors import WorldlineError


class BucketError(WorldlineError):
    """The bucket did not give the bytes: unreachable, forbidden, absent. Reading it once more is of no use."""


class ObjectReplaced(BucketError):  # noqa: N818
    """Another object lies under that name by now: whatever was read of the old one is void."""


class DamagedInTransit(BucketError):  # noqa: N818
    """The bytes are not those that the object list promised, though the object is the same: read it once more."""
