"""The asyncio shell around the core: one daemon a machine."""
