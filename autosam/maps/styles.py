"""Style files for QGIS 3, which loads `name.qml` by itself when it lies beside `name.tif`.

Water is blue and land transparent; the probability goes from transparent over pale to dark blue, a
scale of one hue that people of every colour vision read.
"""

from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

from autosam.drawing import WATER
from autosam.errors import ConfigError, did_you_mean
from autosam.files import PathLike, write_text
from autosam.maps.raster_output import PROBABILITY_LEVELS

Styled = Literal["mask", "picture", "probability-uint8", "probability-float"]
_WATER = {"mask": (1,), "picture": (1, 255)}
"""What is water."""
_TOPS = {"probability-uint8": float(PROBABILITY_LEVELS), "probability-float": 1.0}
_SHADES = (
    (0.0, "#f7fbff", 0),
    (0.25, "#c6dbef", 150),
    (0.5, "#6baed6", 220),
    (1.0, "#08306b", 255),
)
"""Probability, colour (ColorBrewer's Blues) and opacity 0..255."""


def write_style(raster: PathLike, *, of: Styled) -> Path:
    """Write the style file beside a raster.

    Args:
        raster: The GeoTIFF; its suffix becomes .qml.
        of: What it holds: a mask of 0 and 1 in which 255 is no data, a mask of 0 and 1 or 255 ('picture'),
            or a probability in 0..254 or 0..1.

    Raises:
        ConfigError: `of` is unknown.
        OutputError: The file cannot be written.
    """
    path = Path(raster).with_suffix(".qml")
    if of in _WATER:
        renderer = _mask_renderer(_WATER[of])
    elif of in _TOPS:
        renderer = _probability_renderer(_TOPS[of])
    else:
        known = (*_WATER, *_TOPS)
        raise ConfigError(f"style must be of {known}, got {of!r}. {did_you_mean(of, known)}")
    write_text(path, _document(renderer))
    return path


def _document(renderer: str) -> str:
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22.0" styleCategories="Symbology">\n'
        "  <pipe>\n"
        f"{renderer}"
        '    <brightnesscontrast brightness="0" contrast="0" gamma="1"/>\n'
        '    <huesaturation saturation="0" grayscaleMode="0" colorizeOn="0"/>\n'
        '    <rasterresampler maxOversampling="2"/>\n'
        "  </pipe>\n"
        "  <blendMode>0</blendMode>\n"
        "</qgis>\n"
    )


def _mask_renderer(water: tuple[int, ...]) -> str:
    blue = "#{:02x}{:02x}{:02x}".format(*WATER)
    entries = ((0, "#ffffff", 0, "land"), *((value, blue, 190, "water") for value in water))
    lines = "".join(
        f'        <paletteEntry value="{value}" color="{colour}" alpha="{alpha}" '
        f"label={quoteattr(label)}/>\n"
        for value, colour, alpha, label in entries
    )
    return (
        '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        "      <rasterTransparency/>\n"
        f"      <colorPalette>\n{lines}      </colorPalette>\n"
        "    </rasterrenderer>\n"
    )


def _probability_renderer(top: float) -> str:
    items = "".join(
        f'            <item value="{share * top:g}" color="{colour}" alpha="{alpha}" '
        f"label={quoteattr(f'{share:.0%}')}/>\n"
        for share, colour, alpha in _SHADES
    )
    return (
        '    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" '
        f'classificationMin="0" classificationMax="{top:g}" nodataColor="">\n'
        "      <rasterTransparency/>\n"
        "      <rastershader>\n"
        '        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" '
        f'minimumValue="0" maximumValue="{top:g}">\n'
        f"{items}"
        "        </colorrampshader>\n"
        "      </rastershader>\n"
        "    </rasterrenderer>\n"
    )
