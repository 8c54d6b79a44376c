"""The dashboard: a Textual app that watches the cluster over the bus and classifies an image on request."""
