"""Options: from Python's values to the library's."""

from __future__ import annotations

import json
import pathlib
import time
import typing
from typing import Any

import pytest
from pymongo.collection import Collection
from support import LONG, Place, ids, receive, receive_many

import mongostream
from mongostream import _buffer, _library, _options

Orders = Collection[dict[str, Any]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (-1, "-1"),
        (1.5, "1.5"),
        (pathlib.Path("a/b"), "a/b"),
        (["a", "b,ä"], '["a", "b,ä"]'),
        (("a",), '["a"]'),
        ({"a": [1]}, '{"a": [1]}'),
    ],
)
def test_values_become_text(value: Any, text: str) -> None:
    assert _buffer._option("name", value) == text


def test_every_option_of_the_library_is_typed() -> None:
    described = json.loads(_library.take_text(_library.ms_options_describe()) or "")
    assert {option["name"] for option in described} == set(_options.Options.__annotations__)


def test_every_choice_of_the_library_is_typed() -> None:
    described = json.loads(_library.take_text(_library.ms_options_describe()) or "")
    types = typing.get_type_hints(_options.Options)
    for option in described:
        if option["choices"] and option["kind"] == "choice":
            assert list(typing.get_args(types[option["name"]])) == option["choices"]


def test_lists_and_stages_reach_the_server(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer, operations=["insert"], pipeline=[{"$match": {"fullDocument.state": "paid"}}])
    orders.insert_many([{"_id": 1, "state": "open"}, {"_id": 2, "state": "paid"}])
    orders.delete_one({"_id": 2})
    orders.insert_one({"_id": 3, "state": "paid"})
    assert ids(receive_many(buffer, 2)) == ["2", "3"]


def test_many_collections_are_a_list(place: Place, client: Any, buffer: mongostream.Buffer) -> None:
    buffer.watch(place.uri, place.database, namespaces=["a", "b_*"]).wait_ready(LONG)
    for name in ("a", "x", "b_1"):
        client[place.database][name].insert_one({"_id": name})
    assert ids(receive_many(buffer, 2)) == ["a", "b_1"]


def test_a_token_may_be_a_text_or_a_dict(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer)
    orders.insert_many([{"_id": 1}, {"_id": 2}])
    token = receive(buffer).resume_token
    assert token is not None
    for given in (token, json.loads(token)):
        with mongostream.Buffer() as other:
            place.watch(other, start_after=given)
            assert receive(other).document_id == "2"


def test_none_leaves_an_option_out(place: Place, buffer: mongostream.Buffer) -> None:
    assert place.watch(buffer, name=None, batch_size=None).name == f"{place.database}.orders"


def test_options_change_the_json(place: Place, orders: Orders, buffer: mongostream.Buffer) -> None:
    place.watch(buffer, format="event", json="canonical", start_at_time=str(int(time.time()) + 1))
    place.watch(buffer, name="other", format="event", json="canonical")
    orders.insert_one({"_id": 1})
    assert receive(buffer).document()["fullDocument"] == {"_id": {"$numberInt": "1"}}
