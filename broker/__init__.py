"""The MQTT broker's side: an embedded broker for the demo and development, and Mosquitto's configuration."""
