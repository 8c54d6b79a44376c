"""Real daemons on a real Mosquitto, hurt on purpose."""
