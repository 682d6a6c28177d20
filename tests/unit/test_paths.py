import unicodedata

from metakd.paths import folder_name

ODD = [
    "Books", "BOOKS", "bOOKS", "a b", "a/b", "a_b", "a:b", "../../../victim", "/etc", ".", "..", "", " ", "-x", "con",
    "NUL", "lpt1", "a.", "a.json", "a.partial", "caf\u00e9", "cafe\u0301", "x" * 248, "x" * 249, "\u65e5" * 100,
    "\udcff", "a\0b", "a\nb",
]  # fmt: skip


def as_a_careless_disk_sees_it(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().rstrip(". ")


def test_plain_names_are_kept() -> None:
    for name in ("books", "nyt_2", "all-train", "review-snippets", "meta-1a2b3c4d"):
        assert folder_name(name) == name


def test_different_names_become_different_plain_components_of_a_path() -> None:
    # What a name became, in either case, is a name too, and must not meet it.
    names = {*ODD, *map(folder_name, ODD), *(folder_name(name).lower() for name in ODD)}
    folders = [folder_name(name) for name in names]
    assert len({as_a_careless_disk_sees_it(folder) for folder in folders}) == len(names)
    for folder in folders:
        assert folder.isascii() and folder.replace("-", "").replace("_", "").isalnum() and len(folder) <= 100
        assert not folder.startswith("-") and folder.lower() not in ("con", "nul", "lpt1")
