"""From a picture to a mesh with its uncertainty: `hmdiff recover`, `render` and `export`."""
