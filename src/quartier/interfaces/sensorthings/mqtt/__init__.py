"""SensorThings by MQTT (18-088 clause 14): finished observations to subscribers, posted ones into the twin.

The broker is the installation's own. Topics are addresses behind the root of the service: ``v1.1/Datastreams(4)/…``
and ``dortmund/v1.1/…`` show what is open to everybody; below ``tokens/<number>/`` a token sees what it may see, and
whatever is published there is done with its rights.
"""
