"""The options of a worker.

Generated from the C header and the table of options: do not edit. `MONGOSTREAM_WRITE=1 cargo test
--workspace --test generated` writes it anew.
"""

from typing import Any, Literal, Mapping, Sequence, TypedDict, Union


class Options(TypedDict, total=False):
    """The options of Buffer.watch, as keyword arguments."""

    # Worker name in messages, errors and logs; where it is not set the namespace ("shop.orders",
    # "shop" for a database, "shop.{items,orders}" for several collections, a long list cut short,
    # "*" for a deployment). Values: text.
    name: str

    # Begin with the first change at or after this cluster time. Excludes the other start options.
    # Values: unix seconds, or seconds:increment.
    start_at_time: str

    # Begin after the event with this token; the server refuses the token of an invalidate. Excludes
    # the other start options. Values: resume token (JSON).
    resume_after: Union[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]

    # As resume_after, and takes the token of an invalidate too. Excludes the other start options.
    # Values: resume token (JSON).
    start_after: Union[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]

    # Continue after the message with this position, which your program has stored with what it made
    # of the message; an unfinished snapshot is finished first. An empty text is as if it were not
    # set. It may stand next to snapshot, which then begins where there is no position. Excludes the
    # other start options. Values: position of a message (JSON), or an empty text.
    start_at_position: Union[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]

    # Many collections on one cursor: collection names where a database is given, else
    # database.collection, split at the first dot. * in the collection stands for any run of
    # characters. Excludes a collection. Values: comma list, or JSON array of texts.
    namespaces: Union[str, Sequence[str]]

    # Deliver only these, such as insert,update,delete; where it is not set all. The library's own
    # messages always come. A type that is almost one of the known ones is refused; another one,
    # which a newer server may have, is a warning in the log. Values: comma list of operation types.
    operations: Union[str, Sequence[str]]

    # Stages that the server puts after $changeStream, such as $match and $project. Keep the event's
    # _id: it is the resume token. They do not filter the documents of a snapshot. Values: JSON
    # array of aggregation stages. Default: [].
    pipeline: Union[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]

    # Which version of the document updates carry (MongoDB manual, $changeStream, fullDocument).
    # whenAvailable and required need MongoDB 6.0. Values: default | updateLookup | whenAvailable |
    # required. Default: default.
    full_document: Literal["default", "updateLookup", "whenAvailable", "required"]

    # Whether updates, replaces and deletes carry the document as it was before. Needs MongoDB 6.0
    # and changeStreamPreAndPostImages on the collection; required fails where the server does not
    # have it. Values: off | whenAvailable | required. Default: off.
    full_document_before_change: Literal["off", "whenAvailable", "required"]

    # Also the server's expanded events: create, createIndexes, dropIndexes, modify, shardCollection
    # and others. Needs MongoDB 6.0. Values: false | true. Default: false.
    show_expanded_events: bool

    # Most events in one reply of the server. Larger ones cost memory and gain nothing. Values: 1 to
    # 2147483647. Default: 4000.
    batch_size: int

    # Longest time in milliseconds that the server waits for an event before it answers with none.
    # Neither delivery nor stop depends on it. Values: 1 to 2147483647. Default: 1000.
    await_ms: int

    # The shape of the JSON: oplog JSON, or the server's change event as it is. Values: oplog |
    # event. Default: oplog.
    format: Literal["oplog", "event"]

    # The mode of MongoDB Extended JSON v2. Values: relaxed | canonical. Default: relaxed.
    json: Literal["relaxed", "canonical"]

    # Oplog JSON of updates has a key UpdatedPaths: the dotted paths of all fields that were set,
    # down to the innermost, without array indexes, each once. Removed fields and truncated arrays
    # are not among them. Where the server does not tell (before MongoDB 6.1, or without
    # show_expanded_events), a step of digits after the first is taken for an index, although it may
    # be a field's name. Values: false | true. Default: false.
    updated_paths: bool

    # Once the stream has been open: give up opening it again after this many milliseconds. Where
    # the server refuses the user, the worker gives up after 30 seconds in any case. Values: -1
    # (never) to 9223372036854775807. Default: -1.
    retry_ms: int

    # Deliver the documents that exist before the stream, as messages with the operation snapshot:
    # where there is no checkpoint yet, or at every start. An unfinished one goes on from its
    # checkpoint, whatever is set. pipeline and operations do not filter them. Excludes
    # start_at_time, resume_after and start_after. Values: never | initial | always. Default: never.
    snapshot: Literal["never", "initial", "always"]

    # When the oplog no longer holds the point to go on from: end with MS_ERR_HISTORY_LOST, or go on
    # from now after a message with the operation gap, which says from when to when changes may be
    # missing, or the same with a snapshot after that message. Values: fail | restart | snapshot.
    # Default: fail.
    on_history_lost: Literal["fail", "restart", "snapshot"]

    # When what is watched was dropped or renamed: go on with what comes by the same name, or end
    # with MS_ERR_INVALIDATED after the last event. Values: continue | stop. Default: continue.
    on_invalidate: Literal["continue", "stop"]

    # When a change event is larger than 16 MB: let the server split it and put it together again
    # (MongoDB 6.0.9, else as fail), end with MS_ERR_OVERSIZED, or go on after a message with the
    # operation oversized, which says which event it is. Values: split | fail | skip. Default:
    # split.
    on_oversized: Literal["split", "fail", "skip"]

    # Keep the acked position in this file, and continue there when the worker is started again: a
    # saved checkpoint overrides every start option. A relative path is resolved once, when the
    # worker starts. Excludes checkpoint_collection. Values: path.
    checkpoint_file: str

    # Keep the acked position in this collection, written with majority, one document for each
    # checkpoint_name. Its own changes are not delivered. Put it into a database of its own: if it
    # is dropped together with the watched database, the running worker writes it again, but one
    # that does not run cannot. Excludes checkpoint_file. Values: database.collection.
    checkpoint_collection: str

    # The deployment of checkpoint_collection, if it is not the watched one. If several deployments
    # keep their checkpoints there, give each stream a checkpoint_name. Values: MongoDB URI.
    checkpoint_uri: str

    # The name of the checkpoint. If it is not set: the collection (shop.orders), the database
    # (shop), or * for the deployment, whatever namespaces narrows it to; the worker's name does not
    # matter. It must stay the same from run to run, and no other running worker may use it in the
    # same place. Two workers on one database with different namespaces need a name each. Values:
    # text.
    checkpoint_name: str

    # Save at most this often, in milliseconds; a position that moved without an ack is saved ten
    # times less often. In a snapshot it is saved too whenever 25000 documents more are acked. To
    # join a worker always saves. Values: 1 to 2147483647. Default: 1000.
    checkpoint_ms: int

    # One of two or more workers of the same stream, in processes of their own, delivers; the others
    # wait in state standby, and one takes over when it is gone. Needs checkpoint_collection. Give
    # all of them the same checkpoint_name and options. Values: true | false. Default: false.
    standby: bool

    # How long a standby waits after it has heard of the worker that delivers for the last time, in
    # milliseconds. That worker renews its lease after each third of this time. The clocks of the
    # deployment's members must agree to within a tenth of it. Values: 1000 to 600000. Default:
    # 10000.
    lease_ms: int
