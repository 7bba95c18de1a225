"""What a synthetic scene is made of: channels, terrain, water, structures, and the camera that sees it."""
