"""GDAL's settings of one thread, in another: rasterio keeps them, and how errors are told, by thread."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import rasterio
from rasterio.env import getenv, hasenv

_OF_THE_PROCESS = "GDAL_CACHEMAX"


def gdal_settings() -> dict[str, Any]:
    """Of this thread, but for the cache's size, which is the whole process's."""
    settings = getenv() if hasenv() else {}
    return {name: value for name, value in settings.items() if name != _OF_THE_PROCESS}


@contextlib.contextmanager
def gdal_set_as(settings: Mapping[str, Any]) -> Iterator[None]:
    """The same settings in this thread while the block runs; without any, GDAL would speak on stderr."""
    with rasterio.Env(**settings):
        yield
