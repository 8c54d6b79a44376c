"""The cluster's logic: a deterministic state machine without clock, I/O, logging, asyncio or numpy."""
