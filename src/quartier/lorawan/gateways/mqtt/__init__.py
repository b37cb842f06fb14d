"""Gateways behind an MQTT broker, by ChirpStack's Gateway Bridge, MQTT Forwarder or Concentratord."""

from quartier.lorawan.gateways.mqtt.client import MqttBroker, MqttClient

__all__ = ["MqttBroker", "MqttClient"]
