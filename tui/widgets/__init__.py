"""Parts of the dashboard's screens. They show what they are given, and know nothing of the bus."""
