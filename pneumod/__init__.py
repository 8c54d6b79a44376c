"""pneumod: federated training of a pneumonia classifier over MQTT. For research, not for diagnosis."""

__version__ = "0.1.0"

RESEARCH_ONLY = "For research only, not for diagnosis."
