"""What docs/how-to/storefront-page.md promises: its page of 30 lines, and a generated client.

Belongs here: programs of a storefront's authors, against the interface on a socket. Does not belong here: README's
commands (`test_readme.py`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.declaring import Role
from contracts.waiting import wait_until
from stack.ports import free_port
from stack.settings import ROOT
from tests.integration.api.conftest import Asked
from tests.integration.api.indexing import index_everything
from tests.integration.shop import MERCHANT

HOW_TO = (ROOT / "docs/how-to/storefront-page.md").read_text(encoding="utf-8")
PAGE, CLIENT = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)
GENERATE = re.search(r"uv (tool run --from .*)", HOW_TO)
LINES_MAX = 30


@pytest.fixture(scope="module")
def shop_page(asked: Asked, address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The how-to's page in a process of its own."""
    index_everything(asked.settings)
    program = tmp_path_factory.mktemp("page") / "shop.py"
    program.write_text(PAGE, encoding="utf-8")
    port = free_port()
    named = {"TIEOUT_API": address, "TIEOUT_KEY": asked.keys[Role.STOREFRONT, MERCHANT], "PORT": str(port)}
    process = subprocess.Popen([sys.executable, program], env={**os.environ, **named}, stderr=subprocess.DEVNULL)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            wait_until(lambda: _answers(client), timeout_seconds=30, failure=lambda: "The page does not answer.")
            yield client
        finally:
            process.terminate()
            process.wait(timeout=30)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/").status_code == 200
    except httpx.TransportError:
        return False


def test_a_page_of_thirty_lines_finds_a_product_and_shows_its_price(shop_page: httpx.Client) -> None:
    code = [line for line in PAGE.splitlines() if line.strip()]
    assert len(code) <= LINES_MAX
    found = shop_page.get("/", params={"q": "mugg"}).text
    (link,) = re.findall(r'<a href="(/[^"]+)">Mug</a>', found)
    product = shop_page.get(link).text
    assert "<h1>Mug</h1>" in product and "GBP 4.99" in product


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_generated_client_reads_answers_and_problems(asked: Asked, address: str, tmp_path: Path) -> None:
    assert GENERATE is not None
    index_everything(asked.settings)
    words = GENERATE[1].replace("docs/openapi.json", str(ROOT / "docs/openapi.json")).split()
    made = subprocess.run([ROOT / ".venv/bin/uv", *words], cwd=tmp_path, capture_output=True, text=True)
    said = made.stdout + made.stderr
    if made.returncode != 0 and "while generating" not in said:
        pytest.skip(f"The generator cannot be installed here: {said.strip()[-200:]}")
    assert made.returncode == 0 and "rror" not in said, said
    program = f"address, key = {address!r}, {asked.keys[Role.STOREFRONT, MERCHANT]!r}\n{CLIENT}" + (
        "from shop_client.api.storefront import get_product\n"
        "problem = get_product.sync(client=shop, product_id='00000000-0000-7000-8000-000000000000')\n"
        "print(problem.type_, problem.status)\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program.replace('"wrapping"', '"mug"')], cwd=tmp_path, capture_output=True, text=True
    )
    assert outcome.stdout.splitlines() == ["Mug", "/problems/not-found 404"], outcome.stderr
