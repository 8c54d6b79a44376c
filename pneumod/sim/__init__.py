"""A virtual cluster: the real core on a virtual clock, bus, disks and children. One seed, one history."""
