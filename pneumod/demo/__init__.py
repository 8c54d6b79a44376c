"""The demo: a whole federation on one machine, with synthetic or real images, real processes and a real broker."""
