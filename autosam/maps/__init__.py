"""Georeferenced rasters of any size in strips, and what is drawn from them; knows no model."""
