"""Images as data URIs, alone and under their heat maps."""

from __future__ import annotations

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

from keras_resnet.report.html import Markup, tag

# Pixels of a side; twice what the page shows, for fine screens.
SIDE = 192


def thumbnail(image: np.ndarray, text: str, heat: np.ndarray | None = None) -> Markup:
    """An image, small.

    Args:
        image: uint8 ``(height, width, channels)``; of other than 1 or 3 channels the first is shown.
        text: What it shows, for those who do not see it.
        heat: ``(height, width)`` in [0, 1], laid over it in colours whose lightness rises with the heat.
    """
    pixels = image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)
    picture = Image.fromarray(np.ascontiguousarray(pixels, np.uint8))
    scale = SIDE / max(picture.size)
    size = tuple(max(1, round(n * scale)) for n in picture.size)
    picture = picture.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)
    if heat is not None:
        picture = _overlay(picture, heat)
    # Few pixels, enlarged: lossless and yet smaller.
    lossless = scale > 2 and heat is None
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True) if lossless else picture.save(file, "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    kind = "png" if lossless else "jpeg"
    return tag(
        "img", src=f"data:image/{kind};base64,{data}", alt=text, width=size[0] // 2, height=size[1] // 2
    )


def _overlay(picture, heat):
    heat = Image.fromarray(np.float32(heat)).resize(picture.size, Image.Resampling.BILINEAR)
    heat = np.clip(np.asarray(heat), 0, 1)[..., None]
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    colours = matplotlib.colormaps["inferno"](heat[..., 0])[..., :3] * 255
    return Image.fromarray(np.uint8(0.45 * grey + 0.55 * colours))
