"""hmdiff: an executable study of Distribution-Aligned Diffusion for Human Mesh Recovery.

`hmdiff.recover` is the one name to import from here; see recovery/api.py. It is looked up when
first asked for, so that `import hmdiff` costs nothing.
"""

__all__ = ["recover"]


def __getattr__(name: str):
    if name == "recover":
        from .recovery.api import recover

        return recover
    raise AttributeError(f"module 'hmdiff' has no attribute {name!r}")
