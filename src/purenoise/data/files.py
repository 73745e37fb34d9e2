"""Images that stay on disk: read from kept rows where there are such, else decoded each time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purenoise.data.decode import UnusableImageError, in_threads, load_image, path_inside
from purenoise.data.pixels import KeptRows
from purenoise.errors import DataError


@dataclass(frozen=True)
class FileImages:
    """Images of a folder, read by index each time they are loaded.

    In memory there is one path per image (about 90 bytes, shared with what was scanned) and, with
    kept rows, 12 bytes more; a load takes the memory of what it returns and, while it decodes, of
    one whole image per core. Threads live for one call only, so that a fork or a pickle breaks
    nothing.

    Args:
        root: Folder, absolute and without links.
        paths: POSIX paths of the images relative to ``root``.
        shape: Channels (1 or 3), height and width to which every image is brought.
        kept: Where the decoded images are kept, if they are; what is damaged there or absent is
            decoded from its file.
    """

    root: Path
    paths: tuple[str, ...]
    shape: tuple[int, int, int]
    kept: KeptRows | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the images at ``indices``.

        Args:
            indices: int64, shape (B,).

        Returns:
            uint8, shape (B, C, H, W).

        Raises:
            DataError: A file that has to be decoded is missing or broken, or has become a link out
                of the folder.
        """
        if self.kept is None:
            images = np.empty((len(indices), *self.shape), np.uint8)  # (B, C, H, W)
            todo = np.arange(len(indices))
        else:
            images, todo = self.kept.read(indices)

        def fill(row: int) -> None:
            images[row] = self._load_one(self.paths[indices[row]])

        sample = [self.root / self.paths[indices[row]] for row in todo[:: len(todo) // 9 + 1]]
        in_threads(fill, todo.tolist(), sample)
        return images

    def _load_one(self, path: str) -> NDArray[np.uint8]:
        """Decode one file of the folder."""
        try:
            return load_image(path_inside(self.root, path), self.shape)
        except UnusableImageError as error:
            raise DataError(f"{path!r} in '{self.root}' cannot be used: {error}.") from error
