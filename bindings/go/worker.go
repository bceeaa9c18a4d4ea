package mongostream

// #include "bridge.h"
import "C"

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// Worker follows one change stream on a thread of the library and feeds one buffer. Any number of goroutines may use it
// at once. Its buffer keeps it alive while it runs: you need not hold it.
type Worker struct {
	name string

	// Held for writing only to free the worker, and never while waiting.
	life    sync.RWMutex
	pointer *C.ms_worker
	cleanup runtime.Cleanup
}

func newWorker(pointer *C.ms_worker) *Worker {
	worker := &Worker{name: C.GoString(C.ms_worker_name(pointer)), pointer: pointer}
	worker.cleanup = runtime.AddCleanup(worker, func(pointer *C.ms_worker) { C.ms_worker_free(pointer) }, pointer)
	return worker
}

// use keeps the worker's memory until life is unlocked for reading. If it is false that is gone, and nothing is locked.
func (w *Worker) use() bool {
	w.life.RLock()
	if w.pointer == nil {
		w.life.RUnlock()
		return false
	}
	return true
}

// Name gives the worker's name, as in its messages and errors: the option name, or what it watches ("shop.orders").
func (w *Worker) Name() string {
	return w.name
}

// State tells what the worker is doing now; StateStopped after Close.
func (w *Worker) State() WorkerState {
	if !w.use() {
		return StateStopped
	}
	defer w.life.RUnlock()
	return WorkerState(C.ms_worker_get_state(w.pointer))
}

func (w *Worker) hasEnded() bool {
	state := w.State()
	return state == StateStopped || state == StateFailed
}

// WaitReady waits until the stream has been open once: every later change will be delivered. It stays true afterwards.
//
// Errors: ctx.Err(); [ErrClosed] if the worker was stopped before; *[Error] that says why it failed. The failure still
// comes through the buffer as well.
func (w *Worker) WaitReady(ctx context.Context) error {
	return w.wait(ctx, func(failure **C.ms_error) C.ms_status {
		return C.ms_worker_wait_ready(w.pointer, 0, failure)
	})
}

// Stop asks the worker to stop, and never waits. What it has put into the buffer stays there. Stopping twice does
// nothing.
func (w *Worker) Stop() {
	if w.use() {
		defer w.life.RUnlock()
		C.ms_worker_stop(w.pointer)
	}
}

// Join waits until the worker has ended and its checkpoint, if it has one, is saved: every ack made before is then
// durable. It does not ask the worker to end; [Worker.Stop] and [Buffer.Close] do.
//
// Errors: ctx.Err(), and the save goes on; *[Error] that says why the worker failed, or StatusCheckpoint if the
// checkpoint could not be saved, after 5 s at the latest.
func (w *Worker) Join(ctx context.Context) error {
	return w.wait(ctx, func(failure **C.ms_error) C.ms_status {
		return C.ms_worker_join(w.pointer, 0, failure)
	})
}

// wait asks until the answer is another one than "not yet". The library has no descriptor for workers, and to wait inside
// it would hold a thread.
func (w *Worker) wait(ctx context.Context, ask func(**C.ms_error) C.ms_status) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.ask(ask); err != errNothing {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *Worker) ask(ask func(**C.ms_error) C.ms_status) error {
	if !w.use() {
		return wrongUse(StatusState, "this worker is closed")
	}
	defer w.life.RUnlock()
	var failure *C.ms_error
	status := ask(&failure)
	switch Status(status) {
	case StatusOK:
		return nil
	case StatusTimeout:
		return errNothing
	case StatusClosed:
		return ErrClosed
	}
	return takeError(status, failure)
}

// ResumeToken gives the token (JSON) up to which every message is acked: a worker started with it as start_after goes on
// there. Before the first ack it is the token with which the stream was opened; "" before that and after Close.
func (w *Worker) ResumeToken() string {
	if !w.use() {
		return ""
	}
	defer w.life.RUnlock()
	return takeString(C.ms_worker_resume_token(w.pointer))
}

// Close stops the worker and lets it go; it never waits. What is still to be saved of its checkpoint is saved later;
// until then the checkpoint counts as in use, so join first to start again at once. Closing twice does nothing.
func (w *Worker) Close() {
	w.life.Lock()
	defer w.life.Unlock()
	if w.pointer != nil {
		w.cleanup.Stop()
		C.ms_worker_free(w.pointer)
		w.pointer = nil
	}
}
