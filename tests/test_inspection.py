"""What `inspect` advises is grammatical for one class and for several."""

from __future__ import annotations

import pytest

from purenoise.inspection import Inspection, _advice
from purenoise.recipe import load_recipe


def advised(*rows: tuple[int, int]) -> str:
    """Return the advice for classes with these numbers of training and test images."""
    classes = [{"class": str(c), "train": n, "test": t} for c, (n, t) in enumerate(rows)]
    return "\n".join(_advice(Inspection("x", classes, {}), 5.0, load_recipe("digits")))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (((50, 0), (50, 9)), "1 class has no test image: its accuracy is n/a."),
        (((50, 0), (50, 0), (50, 9)), "2 classes have no test image: their accuracy is n/a."),
        (((50, 1), (50, 9)), "The smallest class has 1 test image: one image is 100 points"),
        (((50, 2), (50, 9)), "The smallest class has 2 test images: one image is 50 points"),
        (((5, 9), (50, 9)), "1 class has fewer than 20 training images: more images of it will"),
        (((5, 9), (6, 9)), "2 classes have fewer than 20 training images: more images of them"),
    ],
)
def test_numbers_and_nouns_agree(rows, said: str):
    """One class has, two classes have."""
    assert said in advised(*rows)
