"""PNG, TIFF and BMP -> grey levels, by Pillow."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from pneumod.errors import DataError
from pneumod.images.orientation import EXIF, orientation_of, upright
from pneumod.images.picture import Grey, Picture, check_size, colour_of, picture

Image.MAX_IMAGE_PIXELS = None  # the limit is ours: one for every format
warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged tags; what matters ends in an exception

DEPTHS = (8, 10, 12, 14, 16)  # bits of the detectors whose levels are found in 16-bit files
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
PHOTOMETRIC, TILE_WIDTH, TILE_HEIGHT = 262, 322, 323  # tags of TIFF
WHITE_IS_ZERO = 0  # the photometric interpretation of inverted grey levels


def decode(data: bytes, name: str) -> Picture:
    """Upright by its orientation tag; colours by their luminance, transparent parts black, deep levels as 8 bits.

    Of an animated PNG the picture that viewers without animation show.

    Args:
        name: the format as Pillow calls it: PNG, TIFF or BMP.

    Raises:
        DataError: damaged, over the limit of pixels, or a TIFF of several pictures.
    """
    try:
        return _decode(data, name)
    except DataError:
        raise
    except Exception as error:  # Pillow has no common exception: OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"a damaged or truncated {name}") from error


def _decode(data: bytes, name: str) -> Picture:
    image: Image.Image = Image.open(io.BytesIO(data), formats=(name,))
    check_size(*image.size)
    inverted = False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        check_size(image.tag_v2.get(TILE_WIDTH, 1), image.tag_v2.get(TILE_HEIGHT, 1))
        if image.n_frames > 1:
            raise DataError(f"a TIFF of {image.n_frames} pictures; give one that holds a single one")
        inverted = image.mode in DEEP and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    image.load()  # a TIFF is upright then
    colour = 0.0
    if image.mode in DEEP:
        grey = to_eight(np.asarray(image))
        grey = 255 - grey if inverted else grey
    elif image.mode in ("1", "L") and "transparency" not in image.info:
        grey = np.asarray(image.convert("L"))
    else:
        colours = _on_black(image)
        grey, colour = np.asarray(colours.convert("L")), colour_of(np.asarray(colours))
    if name == "PNG":  # by its eXIf chunk alone: what else Pillow would ask doesn't travel
        grey = upright(grey, orientation_of(image.info.get("exif", b"").removeprefix(EXIF)))
    return picture(grey, grey.shape, colour)


def _on_black(image: Image.Image) -> Image.Image:
    """RGB; what is transparent shows black, as the surroundings of an X-ray are."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, layer).convert("RGB")


def to_eight(levels: NDArray[np.generic]) -> Grey:
    """Deep grey levels [h, w] -> uint8.

    Whole numbers from 0 on are scaled by the range of the shallowest detector that holds them all: levels of
    12 bits in a file of 16 would look black by the file's own range. Others are scaled from lowest to highest.
    """
    least, most = float(levels.min()), float(levels.max())
    if not np.isfinite((least, most)).all():
        raise DataError("grey levels that are no numbers")
    depth = next((depth for depth in DEPTHS if most < 2**depth), None)
    if levels.dtype.kind == "f" or least < 0 or depth is None:
        scale, offset = 255 / max(most - least, 1e-9), least
    else:
        scale, offset = 255 / (2**depth - 1), 0.0
    scaled: Grey = ((levels.astype(np.float32) - offset) * scale + 0.5).astype(np.uint8)
    return scaled
