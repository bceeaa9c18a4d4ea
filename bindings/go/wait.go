package mongostream

// #include "bridge.h"
import "C"

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How receives wait without holding a thread.
//
// The library shows with a descriptor whether a receive would find something. One goroutine at a time, whose turn it is,
// waits for it with Go's poller; the others wait in Go for their turn. So a message wakes one goroutine and not all.
//
// Go's poller tells only of changes, so nothing may be there when somebody falls asleep and nothing may come unnoticed:
//   - Who has the turn tries to receive after the poller is armed. Where the library then has nothing, what comes next
//     changes the descriptor.
//   - Who leaves hands the turn on, and the next one tries first.
//   - Messages that are kept in Go change no descriptor. Who keeps some kicks the one that sleeps.

// waiting is what a buffer's waiting receives share.
type waiting struct {
	// Full while it is somebody's turn.
	turn chan struct{}
	// Whether that one may be asleep.
	asleep atomic.Bool

	lock sync.Mutex
	// The descriptor of the library, a copy of it in Go's poller; nil if there is none yet.
	file  *os.File
	ended bool
}

func newWaiting() waiting {
	return waiting{turn: make(chan struct{}, 1)}
}

// past is a deadline that wakes whoever sleeps.
var past = time.Unix(1, 0)

// withoutDescriptor is how often the library is asked if the system gives no descriptor.
const withoutDescriptor = 10 * time.Millisecond

// descriptor gives the file to wait for, nil if the system has none to give.
func (w *waiting) descriptor(b *Buffer) *os.File {
	if b.use() != nil {
		return nil
	}
	defer b.life.RUnlock()
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.file != nil || w.ended {
		return w.file
	}
	own := C.ms_buffer_fd(b.pointer)
	if own < 0 {
		return nil
	}
	// A copy, because Go closes what it polls, and the library's belongs to the library.
	duplicate := C.msgo_duplicate(own)
	if duplicate < 0 {
		return nil
	}
	file := os.NewFile(uintptr(duplicate), "mongostream buffer")
	if file.SetReadDeadline(time.Time{}) != nil {
		// Go's poller does not take it.
		file.Close()
		return nil
	}
	w.file = file
	return file
}

// kick wakes whoever sleeps, so that it tries again.
func (w *waiting) kick() {
	if !w.asleep.Load() {
		return
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.file != nil {
		// Fails only if it is closed, which wakes too.
		_ = w.file.SetReadDeadline(past)
	}
}

// end wakes whoever sleeps for the last time.
func (w *waiting) end() {
	w.lock.Lock()
	file := w.file
	w.file, w.ended = nil, true
	w.lock.Unlock()
	if file != nil {
		// Waits until whoever tries to receive just now has done so: nobody may call this with a lock that they need.
		_ = file.Close()
	}
}

// wait tries until there is something, or ctx is done.
func wait[T any](ctx context.Context, b *Buffer, try func() (T, error)) (T, error) {
	var nothing T
	if err := ctx.Err(); err != nil {
		return nothing, err
	}
	if found, err := try(); err != errNothing {
		return found, err
	}
	w := &b.waiting
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return nothing, ctx.Err()
	}
	w.asleep.Store(true)
	defer func() {
		w.asleep.Store(false)
		<-w.turn
	}()
	file := w.descriptor(b)
	var poll syscall.RawConn
	if file != nil {
		var err error
		if poll, err = file.SyscallConn(); err != nil {
			file = nil
		}
	}
	if file != nil {
		// One that comes too late wakes the next one for nothing.
		defer context.AfterFunc(ctx, w.kick)()
	}
	for {
		found, err := nothing, errNothing
		attempt := func(uintptr) bool {
			found, err = try()
			return err != errNothing
		}
		if file != nil {
			// First the deadline, then the rest: a kick from here on is not lost.
			_ = file.SetReadDeadline(time.Time{})
			if err := ctx.Err(); err != nil {
				return nothing, err
			}
			if err := poll.Read(attempt); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				file = nil // The buffer is freed: the next attempt says so.
			}
		} else if !attempt(0) {
			select {
			case <-time.After(withoutDescriptor):
			case <-ctx.Done():
				return nothing, ctx.Err()
			}
		}
		if err != errNothing {
			return found, err
		}
	}
}
