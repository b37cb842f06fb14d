"""New observations as they are recorded, for whoever asked for some of them: MQTT topics and server-sent events.

A query is an address of observations as GET takes it. Which readings of the stream ``observed`` could belong to it is
found by an index, simple filters are answered here, and everything else by one statement for a whole batch.
"""
