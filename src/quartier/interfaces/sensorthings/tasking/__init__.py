"""Tasks for things (17-079r1): checked against what a capability takes, and carried to the device.

How a device is reached is not known here: whoever can reach some (a radio network) says so in :mod:`.downlinks`.
"""
