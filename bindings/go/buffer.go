package mongostream

// #include "bridge.h"
// #include <stdlib.h>
import "C"

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"unsafe"
)

// prefetched is how many messages a receive of one message takes out of the library at most.
const prefetched = 64

// errNothing says that a receive would have to wait.
var errNothing = errors.New("nothing to receive")

// Buffer is a bounded queue of messages: any number of workers in, any number of consumers out. Any number of goroutines
// may use it at once.
//
//	buffer := mongostream.NewBuffer(1024)
//	defer buffer.Close()
//	worker, err := buffer.Watch("mongodb://localhost:27017", "shop", "orders", nil)
//
// The garbage collector frees a buffer that nothing refers to any more; its workers stop then. While you hold the buffer
// its workers run, whether you hold them or not.
type Buffer struct {
	capacity int
	// Why the buffer cannot be used at all.
	flaw error

	// Locks are taken in this order: queue, life, running, waiting's.

	// Held for writing only to free the buffer, and never while waiting.
	life    sync.RWMutex
	pointer *C.ms_buffer
	cleanup runtime.Cleanup

	running sync.Mutex
	workers []*Worker

	// Guards what was taken out of the library and is not yet handed out.
	queue sync.Mutex
	kept  *Batch

	waiting waiting
}

// NewBuffer makes a buffer for up to capacity messages and 64 MiB of change events. When it is full its workers wait;
// nothing is ever dropped. A capacity below 1 is an error that every later call returns.
//
// Up to 64 messages, and never more than capacity, are taken out of the library at once and wait in Go for the next
// receive: so many more may be in memory.
func NewBuffer(capacity int) *Buffer {
	return NewBufferWith(capacity, 64<<20)
}

// NewBufferWith makes a buffer for up to capacity messages and maxBytes bytes of change events (BSON), whichever is
// reached first. One event that is larger than maxBytes still passes, alone. A bound below 1 is an error that every
// later call returns.
func NewBufferWith(capacity, maxBytes int) *Buffer {
	buffer := &Buffer{capacity: capacity, waiting: newWaiting()}
	if buffer.flaw = checkVersion(); buffer.flaw != nil {
		return buffer
	}
	if capacity < 1 || maxBytes < 1 {
		buffer.flaw = wrongUse(StatusArgument,
			fmt.Sprintf("a buffer's capacity (%d) and its bytes (%d) must be at least 1", capacity, maxBytes))
		return buffer
	}
	buffer.pointer = C.ms_buffer_new_with(C.size_t(capacity), C.size_t(maxBytes))
	if buffer.pointer == nil {
		buffer.flaw = wrongUse(StatusResource, "the library could not make a buffer")
		return buffer
	}
	buffer.cleanup = runtime.AddCleanup(buffer, func(pointer *C.ms_buffer) { C.ms_buffer_free(pointer) }, buffer.pointer)
	return buffer
}

// use keeps the buffer's memory until life is unlocked for reading. It fails, and locks nothing, if that is gone.
func (b *Buffer) use() error {
	b.life.RLock()
	if b.pointer != nil {
		return nil
	}
	b.life.RUnlock()
	if b.flaw != nil {
		return b.flaw
	}
	return wrongUse(StatusState, "this buffer is freed")
}

// Recv waits for the next message. Ack it when you are done with it.
//
// Errors: ctx.Err() as it is, and then no message was taken; [ErrClosed] when nothing more will come; *[Error] where a
// worker failed (its field Worker names it, and receiving may go on) or the mistake is your own (then stop looping).
// On a buffer that no worker has fed yet it waits.
func (b *Buffer) Recv(ctx context.Context) (*Message, error) {
	return wait(ctx, b, b.message)
}

// Messages iterates over the messages as they come.
//
//	for message, err := range buffer.Messages(ctx) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(message.JSON())
//		message.Ack()
//	}
//
// It ends when the buffer is drained, and closed or without a running worker. After the failure of a worker (err is an
// *[Error] that names it) it may go on with the messages of the others; after any other error, such as ctx.Err(), it has
// ended. A loop that is left early loses nothing: the next receive gets the next message.
func (b *Buffer) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		loop(func() (*Message, error) { return b.Recv(ctx) }, yield)
	}
}

// RecvBatch waits for one message, then takes what is already there, up to max messages. It never waits to fill the
// batch. Errors are those of [Buffer.Recv]; a failure that stands after some messages comes with the next call.
func (b *Buffer) RecvBatch(ctx context.Context, max int) (*Batch, error) {
	if max < 1 {
		return nil, wrongUse(StatusArgument, fmt.Sprintf("a batch of at most %d messages", max))
	}
	return wait(ctx, b, func() (*Batch, error) { return b.batch(max) })
}

// Batches iterates over the messages in batches of at most max. It ends as [Buffer.Messages] does.
func (b *Buffer) Batches(ctx context.Context, max int) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		loop(func() (*Batch, error) { return b.RecvBatch(ctx, max) }, yield)
	}
}

func loop[T any](receive func() (T, error), yield func(T, error) bool) {
	for {
		received, err := receive()
		if errors.Is(err, ErrClosed) || !yield(received, err) {
			return
		}
		var failure *Error
		if err != nil && (!errors.As(err, &failure) || failure.Worker == "") {
			return
		}
	}
}

// message takes the next message, without waiting.
func (b *Buffer) message() (*Message, error) {
	b.queue.Lock()
	defer b.queue.Unlock()
	if b.kept == nil {
		fresh, err := b.receive(min(prefetched, b.capacity))
		if err != nil {
			return nil, err
		}
		b.kept = fresh
	}
	message := b.kept.Message(0)
	if b.kept.messages = b.kept.messages[1:]; len(b.kept.messages) == 0 {
		b.kept = nil
	} else {
		b.kept.whole = false
		b.waiting.kick()
	}
	return message, nil
}

// batch takes the next messages, without waiting.
func (b *Buffer) batch(max int) (*Batch, error) {
	b.queue.Lock()
	defer b.queue.Unlock()
	if b.kept == nil {
		return b.receive(max)
	}
	batch := b.kept.take(max)
	if len(b.kept.messages) == 0 {
		b.kept = nil
	}
	return batch, nil
}

// receive takes messages out of the library, without waiting.
func (b *Buffer) receive(max int) (*Batch, error) {
	if err := b.use(); err != nil {
		if b.flaw == nil {
			err = ErrClosed
		}
		return nil, err
	}
	defer b.life.RUnlock()
	received := C.msgo_receive(b.pointer, C.size_t(max))
	switch Status(received.status) {
	case StatusOK:
		return newBatch(received), nil
	case StatusTimeout:
		return nil, errNothing
	case StatusClosed:
		return nil, ErrClosed
	}
	return nil, takeError(received.status, received.error)
}

// Watch starts a worker on the deployment at uri. collection "": the whole database; database "" too: the database in
// the URI's path, and where there is none, or "/admin", the whole deployment. options may be nil: every default.
//
// It checks every argument and option now, and the worker connects on a thread of its own: what goes wrong there comes
// through the buffer. Errors are *[Error]: StatusArgument; StatusState for a closed buffer; StatusInUse if another worker
// uses the checkpoint; StatusCheckpoint if its store cannot be used; StatusResource if the system gives no thread or
// descriptor, and a later call may succeed.
func (b *Buffer) Watch(uri, database, collection string, options Options) (*Worker, error) {
	if err := b.use(); err != nil {
		return nil, err
	}
	defer b.life.RUnlock()
	native, err := options.native()
	if err != nil {
		return nil, err
	}
	defer C.ms_options_free(native)
	var texts [3]*C.char
	for index, text := range []string{uri, database, collection} {
		if text == "" && index > 0 {
			continue
		}
		if texts[index], err = cString(text); err != nil {
			return nil, err
		}
		defer C.free(unsafe.Pointer(texts[index]))
	}
	var failure *C.ms_error
	pointer := C.ms_worker_start(texts[0], texts[1], texts[2], b.pointer, native, &failure)
	if pointer == nil {
		return nil, takeError(C.ms_status(StatusPanic), failure)
	}
	worker := newWorker(pointer)
	b.keep(worker)
	return worker, nil
}

// keep holds a worker for as long as it runs: to free it would stop it.
func (b *Buffer) keep(worker *Worker) {
	b.running.Lock()
	defer b.running.Unlock()
	b.workers = append(slices.DeleteFunc(b.workers, (*Worker).hasEnded), worker)
}

// Len tells how many messages are queued now.
func (b *Buffer) Len() int {
	b.queue.Lock()
	defer b.queue.Unlock()
	if b.use() != nil {
		return 0
	}
	defer b.life.RUnlock()
	length := int(C.ms_buffer_len(b.pointer))
	if b.kept != nil {
		length += b.kept.Len()
	}
	return length
}

// Close stops the buffer's workers and wakes every consumer. What is queued can still be received. It never waits, and
// closing twice does nothing.
//
// To end in order: Close, receive and ack what is left, then [Worker.Join], which saves the checkpoint.
func (b *Buffer) Close() {
	if b.use() == nil {
		defer b.life.RUnlock()
		C.ms_buffer_close(b.pointer)
	}
}

// Free closes the buffer and releases its memory now, instead of leaving that to the garbage collector. What is queued
// is dropped, unacked; receives end with [ErrClosed]. It never waits for a server or a consumer. Freeing twice does
// nothing, and any other use of a freed buffer is an error.
func (b *Buffer) Free() {
	b.Close()
	b.release()
	b.waiting.end()
}

// release gives the memory back.
func (b *Buffer) release() {
	b.queue.Lock()
	defer b.queue.Unlock()
	b.life.Lock()
	defer b.life.Unlock()
	if b.pointer == nil {
		return
	}
	b.cleanup.Stop()
	C.ms_buffer_free(b.pointer)
	b.pointer = nil
	if b.kept != nil {
		b.kept.Close()
		b.kept = nil
	}
}

// cString makes a C string, which the caller frees.
func cString(text string) (*C.char, error) {
	for index := range len(text) {
		if text[index] == 0 {
			return nil, wrongUse(StatusArgument, fmt.Sprintf("a text has a NUL inside: %q", text))
		}
	}
	return C.CString(text), nil
}

// takeString makes Go's string of the library's, and frees that.
func takeString(text *C.char) string {
	defer C.ms_string_free(text)
	return C.GoString(text)
}
