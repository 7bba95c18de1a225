"""Disk or hub to samples: reading, dividing, resizing, changing. It knows no network."""
