"""hmdiff: an executable study of Distribution-Aligned Diffusion for Human Mesh Recovery."""
