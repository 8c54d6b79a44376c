"""A virtual cluster: the real core on a virtual clock, bus, disks and children. One seed, one history.

clock     what happens next, and when
bus       the broker: retained messages, Wills, queues, loss, duplicates, reordering
disk      what survives a crash, and what a bad disk does to it
children  the processes that train and fold, and how they fail
machine   one node's daemon: events in, actions out, in order
world     the machines together, and what can befall them
"""
