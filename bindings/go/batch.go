package mongostream

// #include "bridge.h"
import "C"

import (
	"sync/atomic"
	"unsafe"
)

// Batch is several messages that were received with one call, in the order in which they were read.
//
//	for batch, err := range buffer.Batches(ctx, 1000) {
//		...
//		os.Stdout.Write(batch.Lines())
//		batch.Ack()
//		batch.Close()
//	}
//
// Any number of goroutines may use it at once. After Close it panics when it is used, as a closed message does.
type Batch struct {
	owner    *owner
	messages []Message
	// Whether these are all messages of the owner.
	whole  bool
	closed atomic.Bool
}

// newBatch takes over a batch of the library. Each of its messages holds a reference.
func newBatch(received C.msgo_received) *Batch {
	length := int(received.length)
	pointers := make([]*C.ms_message, length)
	C.msgo_messages(received.batch, received.length, &pointers[0])
	owner := newOwner(unsafe.Pointer(received.batch), freeBatch, length, int64(received.bytes))
	messages := make([]Message, length)
	for index, pointer := range pointers {
		messages[index].owner, messages[index].pointer = owner, pointer
	}
	return &Batch{owner: owner, messages: messages, whole: true}
}

// take splits the first messages off, at most max.
func (b *Batch) take(max int) *Batch {
	if max >= len(b.messages) {
		all := &Batch{owner: b.owner, messages: b.messages, whole: b.whole}
		b.messages = nil
		return all
	}
	first := &Batch{owner: b.owner, messages: b.messages[:max:max]}
	b.messages, b.whole = b.messages[max:], false
	return first
}

// use keeps the batch's memory until its owner is released.
func (b *Batch) use() {
	if b.closed.Load() || !b.owner.acquire() {
		panic(wrongUse(StatusState, "this batch is closed"))
	}
}

// Len tells how many messages the batch holds, at least 1.
func (b *Batch) Len() int {
	return len(b.messages)
}

// Message gives one message, the first one with index 0. It panics past the end. Closing the batch closes the message;
// clone what you keep.
func (b *Batch) Message(index int) *Message {
	return &b.messages[index]
}

// Messages gives all messages. Closing the batch closes them; clone what you keep.
func (b *Batch) Messages() []*Message {
	all := make([]*Message, len(b.messages))
	for index := range b.messages {
		all[index] = &b.messages[index]
	}
	return all
}

// Lines gives all messages as JSON, each on a line of its own that ends in a newline. The bytes are a copy and yours.
func (b *Batch) Lines() []byte {
	b.use()
	defer b.owner.release()
	if !b.whole {
		var lines []byte
		for index := range b.messages {
			lines = append(b.messages[index].AppendJSON(lines), '\n')
		}
		return lines
	}
	return append([]byte(nil), view(C.msgo_json_lines((*C.ms_batch)(b.owner.pointer)))...)
}

// Ack acks every message of the batch, see [Message.Ack].
func (b *Batch) Ack() {
	b.use()
	defer b.owner.release()
	if b.whole {
		C.ms_batch_ack((*C.ms_batch)(b.owner.pointer))
		return
	}
	pointers := make([]*C.ms_message, len(b.messages))
	for index := range b.messages {
		pointers[index] = b.messages[index].pointer
	}
	C.msgo_ack(&pointers[0], C.size_t(len(pointers)))
}

// Close closes the batch's messages and releases their memory as soon as nobody uses them. Those that are not acked
// stay so. Closing twice does nothing.
func (b *Batch) Close() {
	b.closed.Store(true)
	for index := range b.messages {
		b.messages[index].Close()
	}
}
