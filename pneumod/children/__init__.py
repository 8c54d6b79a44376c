"""The daemon's two child processes: `trainer` (TensorFlow) and `light` (pixels and updates)."""
