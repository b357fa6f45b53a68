"""The systems, each in one file that reads from top to bottom. `tinymm.catalog` lists them."""

from tinymm.models.text_image import TextImageConfig, TextImageModel

__all__ = ["TextImageConfig", "TextImageModel"]
