"""Regional parameters (RP002) behind one interface; EU868 is the only region that is built in."""

from .eu868 import EU868
from .region import Channel, ChannelList, Region, SubBand

REGIONS: dict[str, Region] = {EU868.name: EU868}
"""By the name that Backend Interfaces and Basics Station use."""

__all__ = ["EU868", "REGIONS", "Channel", "ChannelList", "Region", "SubBand"]
