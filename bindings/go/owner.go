package mongostream

// #include "bridge.h"
import "C"

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// owner owns a batch or a message of the library. It is freed when its last reference is released, or by the garbage
// collector when nothing in Go can reach it any more. A call of the library holds a reference, so neither can happen
// under it.
type owner struct {
	pointer unsafe.Pointer
	free    func(unsafe.Pointer)
	// Messages that are not closed, and calls under way.
	references atomic.Int64
	bytes      int64
	cleanup    runtime.Cleanup
}

func freeBatch(pointer unsafe.Pointer) {
	C.ms_batch_free((*C.ms_batch)(pointer))
}

func freeMessage(pointer unsafe.Pointer) {
	C.ms_message_free((*C.ms_message)(pointer))
}

func newOwner(pointer unsafe.Pointer, free func(unsafe.Pointer), references int, bytes int64) *owner {
	made := &owner{pointer: pointer, free: free, bytes: bytes}
	made.references.Store(int64(references))
	made.cleanup = runtime.AddCleanup(made, func(pointer unsafe.Pointer) {
		free(pointer)
		held.Add(-bytes)
	}, pointer)
	hold(bytes)
	return made
}

// acquire takes one more reference; false if the last one is gone.
func (o *owner) acquire() bool {
	for {
		now := o.references.Load()
		if now == 0 {
			return false
		}
		if o.references.CompareAndSwap(now, now+1) {
			return true
		}
	}
}

func (o *owner) release() {
	if o.references.Add(-1) == 0 {
		o.cleanup.Stop()
		o.free(o.pointer)
		held.Add(-o.bytes)
	}
	// What was read through the pointer is copied by now.
	runtime.KeepAlive(o)
}

// The garbage collector does not see the library's memory. A program that closes no message would keep far too much of
// it alive between two collections, so a collection is asked for when that memory has doubled.

const heldAtLeast = 64 << 20

var (
	held       atomic.Int64
	heldLimit  atomic.Int64
	collecting atomic.Bool
)

func init() {
	heldLimit.Store(heldAtLeast)
}

func hold(bytes int64) {
	if held.Add(bytes) > heldLimit.Load() && collecting.CompareAndSwap(false, true) {
		go func() {
			defer collecting.Store(false)
			runtime.GC()
			// Cleanups run a little later. What they leave is really in use.
			for before := int64(-1); before != held.Load(); {
				before = held.Load()
				time.Sleep(5 * time.Millisecond)
			}
			heldLimit.Store(max(heldAtLeast, 2*held.Load()))
		}()
	}
}
