"""A node under full load and random faults for as long as asked, and what it must keep to meanwhile: `scripts/soak`."""
