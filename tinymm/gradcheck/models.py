"""An example for every model of the catalogue."""

from typing import Any

from tinymm import models
from tinymm.gradcheck.examples import (
    SHARED, Generator, ModuleExample, ModuleExamples, dropout, module, n,
)


def text_image(rng: Generator, **options: Any) -> ModuleExample:
    config = models.TextImageConfig(vocabulary_size=11, image_size=9, channels=(4, 5), strides=(2, 2), d_model=6,
                                    n_heads=3, d_ff=8, max_length=5, **options)
    return module(models.TextImageModel(config, rng), rng, images=n(rng, 2, 9, 9, 3), ids=rng.integers(11, size=(3, 4)),
                  image_index=SHARED, max_entries=2, **(dropout(rng) if config.dropout else {}))


MODELS: ModuleExamples = {
    "text_image": {
        "concatenate": lambda rng: text_image(rng, fusion="concatenate", norm="pre", n_layers=2, dropout=0.2),
        "cross, post-norm": lambda rng: text_image(rng, fusion="cross", norm="post", n_layers=1, dropout=0.2),
        "joint": lambda rng: text_image(rng, fusion="joint", norm="pre", n_layers=2),
    },
}
