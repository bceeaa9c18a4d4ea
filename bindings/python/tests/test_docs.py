"""The examples in Python of the documentation."""

from __future__ import annotations

import ast
import pathlib
import re
import sqlite3
from typing import Any

from pymongo.collection import Collection
from support import Place, ids, receive_many

import mongostream

PACKAGE = pathlib.Path(__file__).parents[1]
DOCS = PACKAGE.parents[1] / "docs"
PAGES = [DOCS / "PYTHON.md", DOCS / "COMING-FROM.md", PACKAGE / "README.md"]


def examples() -> list[str]:
    return [code for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]


def flags() -> int:
    return ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def test_every_example_is_python_and_uses_names_that_exist() -> None:
    assert len(examples()) > 5
    for code in examples():
        compile(code, "example", "exec", flags=flags())
        for name in re.findall(r"\bmongostream\.(\w+)", code):
            assert name in mongostream.__all__, name


def test_the_example_of_a_store_keeps_the_place(
    place: Place, orders: Collection[dict[str, Any]], tmp_path: pathlib.Path
) -> None:
    (code,) = [code for code in examples() if "class Table" in code]
    names: dict[str, Any] = {"sqlite3": sqlite3}
    exec(code.partition("buffer.watch")[0], names)
    for first in (0, 2):
        table = names["Table"](str(tmp_path / "state.db"))
        with mongostream.Buffer() as buffer:
            place.watch(buffer, checkpoint_store=table)
            if first == 0:
                orders.insert_many([{"_id": number} for number in range(4)])
            messages = receive_many(buffer, 2)
            assert ids(messages) == [str(first), str(first + 1)]
            for message in messages:
                message.ack()
        table.database.close()
