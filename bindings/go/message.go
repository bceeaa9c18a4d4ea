package mongostream

// #include "bridge.h"
import "C"

import (
	"encoding/json"
	"sync/atomic"
	"time"
	"unsafe"
)

// Message is one change event. It outlives its buffer and its worker. Any number of goroutines may use it at once.
//
//	fmt.Println(message.Operation(), message.Namespace(), message.JSON())
//	message.Ack()
//
// Texts are made when they are first asked for, and copied: what a method has returned is yours for ever.
//
// The message itself holds memory of the native library. The garbage collector releases it; Close does so at once,
// which is worth it where many or large messages pass. A message that is used after Close panics, as a closed channel
// does.
type Message struct {
	owner   *owner
	pointer *C.ms_message
	closed  atomic.Bool
}

// use keeps the message's memory until the returned function is called.
func (m *Message) use() *owner {
	if m.closed.Load() || !m.owner.acquire() {
		panic(wrongUse(StatusState, "this message is closed"))
	}
	return m.owner
}

// JSON gives the message as JSON on one line, in the shape of the options format and json.
func (m *Message) JSON() string {
	defer m.use().release()
	text := C.msgo_json(m.pointer)
	return C.GoStringN(text.data, C.int(text.length))
}

// AppendJSON appends the same text to buffer and returns the extended buffer. It spares the allocation of JSON.
func (m *Message) AppendJSON(buffer []byte) []byte {
	defer m.use().release()
	return append(buffer, view(C.msgo_json(m.pointer))...)
}

// String is JSON, so that a message can be printed.
func (m *Message) String() string {
	return m.JSON()
}

// BSON gives the server's change event as it came: raw BSON, for the bson package of MongoDB's driver.
func (m *Message) BSON() []byte {
	defer m.use().release()
	return append([]byte(nil), view(C.msgo_bson(m.pointer))...)
}

// Operation gives the operation type as the server names it, such as "insert".
func (m *Message) Operation() string {
	defer m.use().release()
	return C.GoString(C.ms_message_operation(m.pointer))
}

// Namespace tells where the change happened: "shop.orders"; only the database for an event without a collection;
// "" for one without a database.
func (m *Message) Namespace() string {
	defer m.use().release()
	return C.GoString(C.ms_message_namespace(m.pointer))
}

// DocumentID gives the changed document's _id as a text: an ObjectId's 24 hexadecimal digits, a string itself, any other
// value as its relaxed Extended JSON ("7"); "" for an event without a document. A string with a NUL inside ends there;
// DocumentKey.DocumentId in the JSON has all of it.
func (m *Message) DocumentID() string {
	defer m.use().release()
	return C.GoString(C.ms_message_document_id(m.pointer))
}

// ClusterTime is a time of the cluster's clock.
type ClusterTime struct {
	// Seconds since 1970.
	Seconds uint32
	// Increment is a number within the second.
	Increment uint32
}

// Time gives the second as Go's time.
func (t ClusterTime) Time() time.Time {
	return time.Unix(int64(t.Seconds), 0)
}

// ClusterTime tells when the change happened; false for an event without it, such as a document of a snapshot.
func (m *Message) ClusterTime() (ClusterTime, bool) {
	defer m.use().release()
	found := C.msgo_cluster_time(m.pointer)
	return ClusterTime{uint32(found.seconds), uint32(found.increment)}, bool(found.known)
}

// UpdatedPaths gives the dotted paths of all fields that an update has set, without array indexes, each once; none for
// other events. Removed fields and truncated arrays are not among them.
func (m *Message) UpdatedPaths() []string {
	defer m.use().release()
	var paths []string
	if err := json.Unmarshal(view(C.msgo_updated_paths(m.pointer)), &paths); err != nil {
		panic(wrongUse(StatusPanic, "the library's updated paths are no JSON: "+err.Error()))
	}
	return paths
}

// ResumeToken gives the token as JSON: a worker started with it as start_after goes on after this message. "" for a
// message that has no place in the stream.
func (m *Message) ResumeToken() string {
	defer m.use().release()
	return C.GoString(C.ms_message_resume_token(m.pointer))
}

// Position gives the place after this message as an opaque text: everything that the worker delivered up to and including
// this message is done. Store it in the same transaction as what you make of the message, and start again with it as the
// option start_at_position: then each message takes effect exactly once, also in the middle of a snapshot. "" for an event
// without a resume token and for a document without an _id.
func (m *Message) Position() string {
	defer m.use().release()
	return C.GoString(C.ms_message_position(m.pointer))
}

// Worker gives the name of the worker that read the message.
func (m *Message) Worker() string {
	defer m.use().release()
	return C.GoString(C.ms_message_worker(m.pointer))
}

// Ack says that you are done with the message: after a restart a worker with a checkpoint does not deliver it again. In
// any order, twice without harm, also after worker and buffer are gone.
func (m *Message) Ack() {
	defer m.use().release()
	C.ms_message_ack(m.pointer)
}

// Clone gives another handle to the same message, with a Close of its own. Nothing is copied. One ack counts for both.
func (m *Message) Clone() *Message {
	held := m.use()
	defer held.release()
	clone := C.ms_message_clone(m.pointer)
	if clone == nil {
		panic(wrongUse(StatusResource, "the library could not clone a message"))
	}
	bytes := int64(C.msgo_bson(clone).length)
	return &Message{owner: newOwner(unsafe.Pointer(clone), freeMessage, 1, bytes), pointer: clone}
}

// Close releases the message's memory as soon as nobody uses it. A message that is not acked stays so. Closing twice
// does nothing. Messages that were received together share memory, which is released with the last of them.
func (m *Message) Close() {
	if !m.closed.Swap(true) {
		m.owner.release()
	}
}

// view gives borrowed bytes of the library. They must be copied before their owner is released.
func view(text C.msgo_text) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(text.data)), int(text.length))
}
