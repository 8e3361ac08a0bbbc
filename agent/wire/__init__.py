"""Bytes on the wire: topics, messages and commands of MQTT, and the JSON of jobs (`wire.jobs`)."""
