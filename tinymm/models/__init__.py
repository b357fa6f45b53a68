"""The systems. `MODELS` maps the name in a run folder's config to its configuration and model class."""

from tinymm.models.text_image import TextImageConfig, TextImageModel

MODELS = {"text_image": (TextImageConfig, TextImageModel)}

__all__ = ["MODELS", "TextImageConfig", "TextImageModel"]
