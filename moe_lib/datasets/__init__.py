"""Real images from a folder, in the same batch form as the pocket world."""

from moe_lib.datasets.folder import DepthFormat, Folder, collate, folder
from moe_lib.datasets.geometry import Augment
from moe_lib.datasets.reading import DataError
from moe_lib.datasets.verify import Report, verify

__all__ = ["Augment", "DataError", "DepthFormat", "Folder", "Report", "collate", "folder", "verify"]
