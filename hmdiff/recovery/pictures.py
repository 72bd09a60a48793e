"""Any picture file that a camera or an editor writes, as the 8-bit RGB array that the networks see.

Files come from anywhere: only formats that Pillow decodes by itself are opened (EPS would start
another program), and a picture that would fill the memory is refused before it is decoded.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..datasets.sample import broken, present

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png",), "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"), "BMP": (".bmp",), "GIF": (".gif",),
    "PPM": (".ppm", ".pgm"), "AVIF": (".avif",),
}  # fmt: skip
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
REMEDY = f"give a {', '.join(FORMATS)} file"


def find(path: Path) -> list[Path]:
    """A file itself; of a folder the pictures in it, by their endings, sorted by name.

    Raises:
        FileNotFoundError, ValueError: there is nothing, or no picture.
    """
    if not present(path, "correct the path").is_dir():
        return [path]
    inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    found = [p for p in inside if not p.name.startswith(".")]
    if not found:
        raise broken(path, "no picture in this folder", f"put some there ({' '.join(SUFFIXES)})")
    return found


def left_out(path: Path, found: list[Path]) -> str:
    """What `find` has left of a folder, in words; nothing of a file or where nothing is left."""
    rest = sorted({*path.iterdir()} - {*found}) if path.is_dir() else []
    rest = [p for p in rest if not p.name.startswith(".")]
    kinds = [p.suffix.lower() or "no ending" if p.is_file() else "folder or link" for p in rest]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return f"{path}: left out what is no picture ({told})" if told else ""


def read(path: str | Path) -> np.ndarray:
    """H x W x 3, uint8, upright: turned as its EXIF says, transparency dropped, 16 bits scaled.

    Raises:
        FileNotFoundError, ValueError: one line that names the file, its fault and the remedy.
    """
    path = present(Path(path), "correct the path")
    if not path.is_file():
        raise broken(path, "not a file", REMEDY)
    if path.stat().st_size == 0:
        raise broken(path, "the file is empty", "copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged tags that nothing here needs
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=list(FORMATS)) as image:
                image.load()
                return as_8_bit(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS // 10**6
        raise broken(path, f"over {limit} million pixels", "scale the picture down") from None
    except Image.UnidentifiedImageError:
        raise broken(path, "not a picture that can be read", REMEDY) from None
    except PermissionError:
        raise broken(path, "may not be read", "change its permissions") from None
    except Exception as error:  # decoders raise many kinds on damaged files
        raise broken(path, f"damaged picture ({error})", "save or copy it again") from None


def as_8_bit(image: Image.Image) -> np.ndarray:
    """A decoded picture of any mode as H x W x 3, uint8.

    Raises:
        ValueError: its values have no fixed range.
    """
    if image.mode == "F":
        raise ValueError("floating-point values without a range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, whatever the byte order
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit values without a range; save it with 8 or 16 bits")
        return np.round(values[..., None].repeat(3, axis=2) / 257).astype(np.uint8)
    return np.asarray(image.convert("RGB"))
