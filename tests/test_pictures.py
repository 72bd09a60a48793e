"""Pictures of every kind against what Pillow's own writer put in; hostile files in one line."""

import struct
import zlib

import numpy as np
import pytest
import skimage.data
from PIL import Image

from hmdiff.recovery import pictures

ASTRONAUT = skimage.data.astronaut()[:64, :96]
GREY = np.asarray(Image.fromarray(ASTRONAUT).convert("L"))
AS_RGB = {
    "1": np.where(GREY > 127, 255, 0).astype(np.uint8)[..., None].repeat(3, 2),
    "L": GREY[..., None].repeat(3, 2),
}


def saved(tmp_path, image: Image.Image, name: str, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm"])
def test_a_lossless_picture_comes_back_exactly(tmp_path, name):
    assert (pictures.read(saved(tmp_path, Image.fromarray(ASTRONAUT), name)) == ASTRONAUT).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif", "a.gif"])
def test_a_lossy_picture_comes_back_nearly(tmp_path, name):
    got = pictures.read(saved(tmp_path, Image.fromarray(ASTRONAUT), name)).astype(float)
    assert got.shape == ASTRONAUT.shape
    assert np.abs(got - ASTRONAUT).mean() < 12


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_grey_and_transparent_pictures_become_rgb(tmp_path, mode):
    path = saved(tmp_path, Image.fromarray(ASTRONAUT).convert(mode), "a.png")
    assert (pictures.read(path) == (AS_RGB["L"] if mode[0] == "L" else ASTRONAUT)).all()


def test_a_palette_is_looked_up(tmp_path):
    image = Image.fromarray(ASTRONAUT).quantize(32)
    table = np.array(image.getpalette()[:96], np.uint8).reshape(-1, 3)
    got = pictures.read(saved(tmp_path, image, "a.png", transparency=3))
    assert (got == table[np.asarray(image)]).all()


def test_black_and_white_becomes_rgb(tmp_path):
    image = Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE)
    assert (pictures.read(saved(tmp_path, image, "a.png")) == AS_RGB["1"]).all()


def test_cmyk_becomes_rgb(tmp_path):
    path = saved(tmp_path, Image.fromarray(ASTRONAUT).convert("CMYK"), "a.jpg", quality=95)
    got = pictures.read(path).astype(float)
    assert np.abs(got - ASTRONAUT).mean() < 12


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
    deep = (GREY.astype(np.uint16) * 257).astype(np.uint16)
    assert (pictures.read(saved(tmp_path, Image.fromarray(deep), name)) == AS_RGB["L"]).all()


# EXIF's orientations and the way numpy makes the stored picture from the upright one.
STORED = {
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
    5: lambda a: a.swapaxes(0, 1), 6: np.rot90, 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", STORED)
def test_exif_turns_the_picture_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](ASTRONAUT)))
    assert (pictures.read(saved(tmp_path, stored, "a.png", exif=exif)) == ASTRONAUT).all()


def png_head(width: int, height: int) -> bytes:
    """A PNG that says it is large; two rows of it are there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(20))) + chunk(b"IEND", b"")
    )


def whole_jpeg(tmp_path) -> bytes:
    return saved(tmp_path, Image.fromarray(ASTRONAUT), "whole.jpg").read_bytes()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n%%EOF\n"
BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"I am no picture\n" * 9, "not a picture that can be read"),
    "postscript": (POSTSCRIPT, "not a picture that can be read"),
    "bomb": (png_head(60_000, 60_000), "million pixels"),
    "large": (png_head(10_000, 10_000), "million pixels"),
    "cut png": (png_head(100, 100), "damaged picture"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, kind):
    content, fault = BAD[kind]
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=fault) as error:
        pictures.read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_cut_jpeg_is_damaged(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(whole_jpeg(tmp_path)[:-400])
    with pytest.raises(ValueError, match="damaged picture"):
        pictures.read(path)


@pytest.mark.parametrize("values", [GREY.astype(np.float32), GREY.astype(np.int32) - 300])
def test_values_without_a_range_are_refused(tmp_path, values):
    path = saved(tmp_path, Image.fromarray(values), "a.tif")
    with pytest.raises(ValueError, match="without a range; save it with 8 or 16 bits"):
        pictures.read(path)


def test_what_is_not_there_or_no_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.jpg: not there"):
        pictures.read(tmp_path / "nowhere.jpg")
    with pytest.raises(ValueError, match="not a file"):
        pictures.read(tmp_path)


def test_a_folder_gives_its_pictures_in_order(tmp_path):
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt", "c.jpeg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.png").mkdir()
    assert [path.name for path in pictures.find(tmp_path)] == ["a.png", "b.JPG", "c.jpeg"]
    assert pictures.find(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no picture in this folder"):
        pictures.find(tmp_path / "empty")
