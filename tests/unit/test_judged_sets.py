"""A judged set of one's own: both files as docs/search.md says, the figures over it, what is wrong with a bad file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bench.judged_sets import Product, read_judgements, read_products
from bench.relevance import main
from contracts.errors import InputError

PRODUCTS = (
    {"id": "h1", "title": "Headphones", "brand": "Sonor", "body": "Over-ear, they cancel noise for 30 hours."},
    {"id": "h2", "title": "Headphones for sport", "brand": "Runn", "attributes": {"color": "black", "weight g": 21}},
    {"id": "h3", "title": "Stand", "brand": "Sonor", "body": "For headphones.", "attributes": None},
    {"id": 4, "title": "USB-C charger", "brand": None, "attributes": {"ports": 2, "with": ["cable", "case"]}},
    {"id": "k1", "title": "Mechanical keyboard", "brand": "Klack", "attributes": {"layout": "ISO", "color": "white"}},
    {"id": "k2", "title": "Keyboard", "brand": "Klack", "price": 12.5},
)
JUDGEMENTS = (
    ("sonor headphones", 3, "h1"),
    ("sonor headphones", 1, "h3 h2"),
    ("noise", 3, "h1"),
    ("black headphones", 3, "h2"),
    ("charger with cable", 3, "4"),
    ("klack keyboard white", 3, "k1"),
    ("klack keyboard white", 2, "k2"),
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    products, judgements = tmp_path / "electronics.jsonl.gz", tmp_path / "judgements.tsv"
    with gzip.open(products, "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps(product) + "\n" for product in PRODUCTS))
    lines = ["query\tgrade\titems", *("\t".join(map(str, one)) for one in JUDGEMENTS)]
    judgements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return products, judgements


def test_both_files_are_read(files: tuple[Path, Path]) -> None:
    products = {product.id: product for product in read_products(files[0])}
    assert products["4"] == Product(id="4", title="USB-C charger", attributes={"ports": "2", "with": "cable, case"})
    assert products["h2"].attributes == {"color": "black", "weight g": "21"} and products["h3"].attributes == {}
    assert read_judgements(files[1])["sonor headphones"] == {"h1": 3, "h3": 1, "h2": 1}


def test_an_own_set_is_measured(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    products, judgements = files
    assert main(["--products", str(products), "--judgements", str(judgements), "--json"]) == 0
    told = capsys.readouterr()
    figures = {one["name"]: one["value"] for one in json.loads(told.out)["figures"]}
    assert figures["judged queries"] == 5 and figures["nDCG@10"] == pytest.approx(1.0, abs=0.05)
    assert told.err == ""
    with judgements.open("a", encoding="utf-8") as file:
        file.write("keyboard\t3\tk1 k9\n")
    main(["--products", str(products), "--judgements", str(judgements), "--json"])
    assert "1 judged item" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no products"),
        ('{"id": "a", "title": "A"}\n{"id": "b"\n', "line 2 is no product"),
        ('{"id": "a"}', "line 1 is no product: Object missing required field `title`."),
        ('{"id": "a", "title": "A", "attributes": {"x": {}}}', "line 1 is no product"),
        ('{"id": "a b", "title": "A"}', "has a space in it"),
        ('{"id": "a", "title": "A"}\n\n{"id": "a", "title": "B"}', "line 3: the id 'a' stands in an earlier line"),
        (b'{"id": "a", "title": "\xff"}', "line 1 is not UTF-8"),
    ],
)
def test_what_is_no_file_of_products_is_said_with_its_line(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = tmp_path / "products.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=sentence.replace("`", ".")):
        read_products(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not name the column 'query'"),
        ("query,grade,items\nlamp,3,a\n", "does not name the column"),
        ("query\tgrade\titems\n", "has no judgements"),
        ("query\tgrade\titems\nlamp\tgood\ta\n", "line 2: the grade is 'good'"),
        ("query\tgrade\titems\nlamp\t11\ta\n", "from 0 to 10"),
        ("query\tgrade\titems\nlamp\t3\t\n", "names no items"),
        ("query\tgrade\titems\nlamp\n", "the grade is 'None'"),
        ("query\tgrade\titems\n\t3\ta\n", "has no query"),
        ("query\tgrade\titems\nlamp\t3\ta b\nlamp\t1\tb\n", "line 3 judges 'b' again for 'lamp'"),
    ],
)
def test_what_is_no_file_of_judgements_is_said_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "judgements.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read_judgements(path)


def test_a_file_that_cannot_be_read_ends_the_command_with_a_sentence(
    tmp_path: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.gz"
    broken.write_bytes(b"no gzip")
    for products, sentence in ((tmp_path / "none.jsonl", "No such file"), (broken, "cannot be read")):
        with pytest.raises(SystemExit) as ended:
            main(["--products", str(products), "--judgements", str(files[1])])
        assert ended.value.code == 2 and sentence in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--products", str(files[0])])
    assert "needs --judgements" in capsys.readouterr().err
