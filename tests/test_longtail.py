"""Long-tailed counts, subsets and class groups against the field's tables and code."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purenoise.errors import DataError
from purenoise.longtail import (
    check_counts,
    groups,
    imbalance,
    imbalanced_counts,
    long_tail_subset,
    read_index_file,
    subset_sha256,
)

# classes, images of the largest, ratio, images in all, smallest class, many/medium/few
TABLE = [
    (10, 5000, 10, 20_431, 500, (10, 0, 0)),
    (10, 5000, 50, 13_996, 100, (9, 1, 0)),
    (10, 5000, 100, 12_406, 50, (8, 2, 0)),
    (10, 5000, 200, 11_203, 25, (7, 3, 0)),
    (100, 500, 10, 19_573, 50, (69, 31, 0)),
    (100, 500, 50, 12_608, 10, (41, 41, 18)),
    (100, 500, 100, 10_847, 5, (35, 35, 30)),
    (100, 500, 200, 9_502, 2, (30, 31, 39)),
]


def field_subset(labels: np.ndarray, counts: list[int], seed: int) -> list[int]:
    """Choose a subset by the field's rule: a seeded global generator, shuffle, take the first."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(seed)  # noqa: NPY002
        chosen: list[int] = []
        for c, n in zip(np.unique(labels), counts, strict=True):
            index = np.where(labels == c)[0]
            np.random.shuffle(index)  # noqa: NPY002
            chosen.extend(index[:n].tolist())
        return chosen
    finally:
        np.random.set_state(state)  # noqa: NPY002


@pytest.mark.parametrize(("n_classes", "n_max", "ratio", "total", "smallest", "sizes"), TABLE)
def test_cifar_counts_are_those_of_the_field(n_classes, n_max, ratio, total, smallest, sizes):
    """Totals, smallest class and groups of the eight CIFAR benchmarks are the published ones."""
    counts = imbalanced_counts("exp", n_max, n_classes, ratio)
    assert counts.dtype == np.int64
    assert (int(counts.sum()), int(counts[0]), int(counts[-1])) == (total, n_max, smallest)
    assert tuple(len(groups(counts)[g]) for g in ("many", "medium", "few")) == sizes
    by_factor = [int(n_max * (1 / ratio) ** (c / (n_classes - 1.0))) for c in range(n_classes)]
    assert counts.tolist() == by_factor


def test_step_and_balanced_profiles():
    """Half the classes of a step profile are small; a ratio of 1 and none are balanced."""
    assert imbalanced_counts("step", 500, 4, 100).tolist() == [500, 500, 5, 5]
    assert imbalanced_counts("step", 50, 5, 10).tolist() == [50, 50, 5, 5, 5]
    assert imbalanced_counts("step", 10, 1, 5).tolist() == [10]
    assert imbalanced_counts("exp", 7, 3).tolist() == [7, 7, 7]
    assert imbalanced_counts("none", 7, 2, 100).tolist() == [7, 7]
    assert imbalanced_counts("exp", 7, 1, 5).tolist() == [7]
    assert imbalanced_counts("exp", 100, 2, 10).tolist() == [100, 10]
    assert imbalanced_counts("exp", 100, 3, 4).tolist() == [100, 50, 25]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("exp", 500, 10, 0.01), "ratio is 0.01, and must be at least 1", "give ratio=100"),
        (("exp", 500, 10, 0), "ratio is 0,", ""),
        (("exp", 500, 10, -3), "ratio is -3", ""),
        (("step", 500, 10, float("nan")), "ratio is nan", ""),
        (("exp", 500, 10, 1000), "class 9 would have no image", "below 500"),
        (("step", 5, 4, float("inf")), "class 2 would have no image", "below 5"),
        (("epx", 500, 10, 10), "'epx' is not known", "Did you mean 'exp'"),
        (("exp", 0, 10, 10), "at most 0 images", "at least 1"),
        (("none", 5, 0), "profile of 0 classes", "at least 1"),
    ],
)
def test_impossible_profiles_get_a_sentence(arguments, message, hint):
    """An impossible profile says what is wrong and what to give instead."""
    with pytest.raises(DataError) as caught:
        imbalanced_counts(*arguments)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("seed", [0, 7])
def test_ldam_subset_is_the_fields_rule(seed):
    """The standard subset on made-up labels equals numpy's legacy code, in order and hash."""
    labels = np.random.default_rng(1).integers(0, 10, 6000)
    counts = imbalanced_counts("exp", 500, 10, 100).tolist()
    expected = field_subset(labels, counts, seed)
    ours = long_tail_subset(labels, counts, "ldam", seed)
    assert ours.tolist() == expected
    text = "\n".join(str(i) for i in sorted(expected)) + "\n"
    assert subset_sha256(ours) == hashlib.sha256(text.encode()).hexdigest()
    assert subset_sha256(ours) != subset_sha256(long_tail_subset(labels, counts, "ldam", seed + 1))


def test_ldam_subset_of_a_labels_list_leaves_the_global_generator_alone():
    """A list of labels works as an array does, and global numpy state is untouched."""
    labels = [0, 1, 2] * 50
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    ours = long_tail_subset(labels, [30, 10, 3])
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert ours.tolist() == field_subset(np.array(labels), [30, 10, 3], 0)


def test_first_subset_takes_the_first_of_each_class():
    """The subset `first` has no randomness."""
    labels = [2, 1, 0, 0, 1, 2, 0]
    for seed in (0, 1):
        assert long_tail_subset(labels, [2, 1, 1], "first", seed).tolist() == [2, 3, 1, 0]


@given(st.data())
def test_subsets_hold_the_counts_without_repeats(data):
    """Each kind of subset has exactly the counts wanted, each image once, and is reproducible."""
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=80)))
    available = np.bincount(labels, minlength=5)
    counts = [data.draw(st.integers(0, int(n))) for n in available]
    kind, seed = (
        data.draw(st.sampled_from(["ldam", "first", "random"])),
        data.draw(st.integers(0, 9)),
    )
    chosen = long_tail_subset(labels, counts, kind, seed)
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.bincount(labels[chosen], minlength=5).tolist() == counts
    assert chosen.tolist() == long_tail_subset(labels, counts, kind, seed).tolist()


def test_random_subset_depends_on_the_seed_and_is_not_the_first():
    """The subset `random` differs between seeds and from the others."""
    labels = np.zeros(1000, np.int64)
    kinds = [("random", 0), ("random", 1), ("ldam", 0), ("first", 0)]
    hashes = {subset_sha256(long_tail_subset(labels, [100], *kind)) for kind in kinds}
    assert len(hashes) == 4


def test_impossible_subsets_get_a_sentence():
    """Too few images name the class; an unknown kind offers names and files."""
    with pytest.raises(DataError, match="Class 1 has 1 images, and 2 are wanted"):
        long_tail_subset([0, 1, 0], [1, 2])
    with pytest.raises(DataError, match=r"(?s)'frist' is not known.*'first'.*subset=FILE"):
        long_tail_subset([0], [1], "frist")


def test_hash_is_of_sorted_lines():
    """The hash is that of the sorted indices, one per line, each line ended."""
    expected = hashlib.sha256(b"2\n10\n300\n").hexdigest()
    assert subset_sha256([300, 2, 10]) == subset_sha256(np.array([10, 300, 2])) == expected


def test_index_files(tmp_path):
    """A file gives its indices in order; comments, blank lines, CRLF and a BOM do not matter."""
    path = tmp_path / "subset.txt"
    path.write_bytes("\ufeff7\r\n# a comment\r\n\r\n 0 \r\n99\r\n".encode())
    assert read_index_file(path, 100).tolist() == [7, 0, 99]
    assert read_index_file(str(path), 100).dtype == np.int64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\nx\n", r"line 2 is 'x', not an index below 10\."),
        (b"1\n-1\n", "line 2 is '-1'"),
        (b"1.0\n", "line 1 is '1.0'"),
        (b"10\n", "line 1 is '10', not an index below 10"),
        (b"1 2\n", "line 1 is '1 2'"),
        (b"9" * 5000, "line 1 is '9999"),
        (b"1\n3\n\n1\n", "line 4 repeats the index 1 of line 1"),
        (b"1\n1\nx\n01\n", r"line 2 repeats the index 1 of line 1 \(3 such lines\)"),
        (b"", "it has no index"),
        (b"# 3\n", "it has no index"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_faults_of_index_files_are_named(tmp_path, content, message):
    """Every fault of an index file is named with its line, and the faults are counted."""
    path = tmp_path / "subset.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_index_file(path, 10)
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 300


def test_missing_index_file_names_the_alternatives(tmp_path):
    """A file that is not there, or a folder, is refused with what else can be given."""
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="cannot be read") as caught:
            read_index_file(path, 10)
        assert "ldam, first, random" in caught.value.hint


def test_counts_are_checked():
    """Whole positive numbers pass, in any container; everything else is refused."""
    assert check_counts([3.0, 1]).tolist() == [3, 1]
    assert check_counts(np.array([2], np.uint8)).dtype == np.int64
    inf, nan = float("inf"), float("nan")
    for bad in ([], [[1, 2]], [2, 1.5], [nan], [inf], [1, nan], [1, inf], ["a"], [True], 3):
        with pytest.raises(DataError, match="must be whole numbers"):
            check_counts(bad)
    with pytest.raises(
        DataError, match=r"Class 0, 1, 2, 3, 4 and more has no .*\(7 of 8 classes\)"
    ):
        check_counts([0] * 6 + [-1, 5])


@pytest.mark.parametrize("count", [2.0**53 + 2, 1e30, 1e308, 2**63 - 1, np.uint64(2**64 - 1)])
def test_counts_that_nothing_can_have_are_refused(count):
    """Above 2**53 integers and floats part, and sums overflow: such counts are refused."""
    with pytest.raises(DataError, match=r"^Class 1 has .* and at most 2\*\*53 can be counted\."):
        check_counts(np.array([1, count], getattr(count, "dtype", None)))
    assert check_counts([1.0, 2.0**53]).tolist() == [1, 2**53]


def test_groups_by_hand():
    """The limits are > 100, 20 to 100, < 20; thirds go by size, ties in class order."""
    found = {k: v.tolist() for k, v in groups([20, 101, 19, 100, 300, 19, 20]).items()}
    assert found == {
        "many": [1, 4], "medium": [0, 3, 6], "few": [2, 5],
        "head": [1, 4], "mid": [0, 3, 6], "tail": [2, 5],
    }  # fmt: skip
    assert groups([50] * 10)["head"].tolist() == [0, 1, 2]
    assert groups([50] * 10)["tail"].tolist() == [7, 8, 9]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40))
def test_groups_divide_the_classes(counts):
    """Each class is in one of many/medium/few and one of head/mid/tail; groups may be empty."""
    found = groups(counts)
    for names in (("many", "medium", "few"), ("head", "mid", "tail")):
        joined = np.concatenate([found[n] for n in names])
        assert sorted(joined.tolist()) == list(range(len(counts)))
        assert all(found[n].dtype == np.int64 for n in names)
    if len(counts) >= 3:
        least = min(counts[c] for c in found["head"])
        assert least >= max(counts[c] for c in [*found["mid"], *found["tail"]])


def test_empty_groups_are_empty_arrays():
    """A set without rare classes has an empty `few`, not a missing one."""
    assert groups([200, 150])["few"].tolist() == []
    assert groups([5])["head"].tolist() == []


def pairwise_gini(counts: np.ndarray) -> float:
    """Compute the Gini coefficient by its definition: mean difference over twice the mean."""
    n = counts.astype(np.float64)
    return float(np.abs(n[:, None] - n[None]).mean() / (2 * n.mean()))


@pytest.mark.parametrize(("row", "gini"), [(TABLE[2], 0.613), (TABLE[6], 0.592)])
def test_gini_of_the_standard_benchmarks(row, gini):
    """The Gini coefficient of the two benchmarks is that of its pairwise definition."""
    counts = imbalanced_counts("exp", row[1], row[0], row[2])
    assert imbalance(counts).gini == pytest.approx(pairwise_gini(counts), rel=1e-12)
    assert imbalance(counts).gini == pytest.approx(gini, abs=5e-4)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20))
def test_imbalance_measures(counts):
    """Measures equal their definitions whatever the order of the classes."""
    found = imbalance(counts)
    share = np.array(counts) / sum(counts)
    assert (found.n_images, found.n_max, found.n_min) == (sum(counts), max(counts), min(counts))
    assert found.ratio == max(counts) / min(counts)
    assert found.gini == pytest.approx(pairwise_gini(np.array(counts)), abs=1e-12)
    assert found.effective_classes == pytest.approx(float(np.prod(share**-share)))


def test_balanced_set_is_balanced():
    """Equal classes have ratio 1, Gini 0 and as many effective classes as classes."""
    found = imbalance([7] * 5)
    assert (found.ratio, found.gini) == (1, 0)
    assert found.effective_classes == pytest.approx(5)
    with pytest.raises(DataError, match="Class 1 has no training images"):
        imbalance([3, 0])


def test_smallest_profiles_are_allowed():
    """One image per class, and classes that keep exactly one, are long tails too."""
    assert imbalanced_counts("exp", 1, 3).tolist() == [1, 1, 1]
    assert imbalanced_counts("none", 1, 1).tolist() == [1]
    assert imbalanced_counts("step", 4, 2, 4).tolist() == [4, 1]
    with pytest.raises(DataError, match="at most 0 images"):
        imbalanced_counts("none", 0, 1)


@pytest.mark.parametrize(("empty", "names"), [(1, "Class 0 has"), (5, "Class 0, 1, 2, 3, 4 has"),
                                              (6, "Class 0, 1, 2, 3, 4 and more has")])  # fmt: skip
def test_at_most_five_empty_classes_are_named(empty, names):
    """Five are named, and that there are more, if there are."""
    with pytest.raises(DataError) as caught:
        check_counts([0] * empty + [1])
    assert caught.value.message.startswith(names)


def test_indices_of_any_length_and_files_of_any_size(tmp_path):
    """Fifteen digits are an index where there are so many images; larger files are not opened."""
    path = tmp_path / "subset.txt"
    path.write_text("999999999999999\n")
    assert read_index_file(path, 10**18).tolist() == [10**15 - 1]
    path.write_text("1000000000000000\n")
    with pytest.raises(DataError, match="line 1 is '1000000000000000'"):
        read_index_file(path, 10**18)
    with path.open("wb") as file:
        file.truncate(256 * 2**20 + 1)
    with pytest.raises(DataError, match="256 MiB"):
        read_index_file(path, 10)


def test_thirds_of_many_classes_of_one_size_are_in_class_order():
    """Ties are in class order however many there are, which only a stable sort keeps."""
    counts = np.tile([30, 20, 30], 100)
    found = groups(counts)
    large, small = np.flatnonzero(counts == 30), np.flatnonzero(counts == 20)
    assert found["head"].tolist() == large[:100].tolist()
    assert found["mid"].tolist() == large[100:].tolist()
    assert found["tail"].tolist() == small.tolist()
    assert groups([9] * 300)["head"].tolist() == list(range(100))
