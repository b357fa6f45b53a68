"""Where the data sets that come with tinymm lie: in the source tree, or installed beside the package."""

from importlib import resources
from pathlib import Path

from tinymm.errors import UserError

INSTALLED_AS = "tinymm_data"   # setup.cfg installs the top-level data/ folder under this name
SOURCE_TREE = Path(__file__).resolve().parents[2] / "data"


def data_path(name: str) -> Path:
    """The folder or file of that name among the shipped data: the source tree's `data/` first, else the installed copy.

    Raises:
        UserError: it is in neither place.
    """
    if (SOURCE_TREE / name).exists():
        return SOURCE_TREE / name
    try:
        installed = Path(str(resources.files(INSTALLED_AS).joinpath(name)))
    except (ModuleNotFoundError, NotADirectoryError):    # the second: an editable install, which has only the source tree
        installed = None
    if installed is not None and installed.exists():
        return installed
    raise UserError(
        f"the data {name!r} is neither in {SOURCE_TREE} nor installed; install tinymm again from its whole source tree"
    )
