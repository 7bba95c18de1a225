"""Image or mask to prompt: points, boxes, coarse masks; geometry only, no network."""
