"""Small random changes of training images: shift, turn, zoom, brightness and contrast.

No flip: a chest has its heart on one side, and a classifier may use it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SHIFT = 0.06  # of the image's side, at most
TURN_DEG = 8.0
ZOOM = 0.08
CONTRAST = 0.15
BRIGHTNESS = 15.0  # grey levels


def augment(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.float32]:
    """Grey levels uint8 [N, S, S] -> float32 [N, S, S], changed, about [0, 255] and not clipped."""
    size = pixels.shape[1]
    centre = (size - 1) / 2.0
    changed = np.empty(pixels.shape, np.float32)
    draws = random.uniform(-1.0, 1.0, (len(pixels), 6))
    for image, out, (right, down, turn, zoom, contrast, brightness) in zip(pixels, changed, draws, strict=True):
        matrix = cv2.getRotationMatrix2D((centre, centre), TURN_DEG * turn, 1.0 + ZOOM * zoom)
        matrix[:, 2] += SHIFT * size * right, SHIFT * size * down
        warped = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        out[:] = (warped - 127.5) * (1.0 + CONTRAST * contrast) + 127.5 + BRIGHTNESS * brightness
    return changed
