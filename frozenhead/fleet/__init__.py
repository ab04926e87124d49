"""Many workers, one cache: shares of a corpus, processes on one host, and Ray on many.

Workers write immutable, uniquely named shards and wait for nobody; what a driver owes them is texts that nobody else
has, and what they owe it is proof that they write into the same cache and the same space.
"""

from frozenhead.fleet.job_note import JobNote
from frozenhead.fleet.processes import embed_on_devices
from frozenhead.fleet.ray_cluster import RayOptions
from frozenhead.fleet.ray_engine import RayWork, embed_with_ray
from frozenhead.fleet.share import Share

__all__ = ["JobNote", "RayOptions", "RayWork", "Share", "embed_on_devices", "embed_with_ray"]
