package mongostream

// #include "bridge.h"
// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/cgo"
	"runtime/debug"
)

// CheckpointStore keeps checkpoints in a place of your own: one text for each name, see the option checkpoint_name. The
// text is opaque. Give it to a worker as the option "checkpoint_store", instead of checkpoint_file and
// checkpoint_collection.
//
// For one worker the library makes one call after the other, for several workers at once, on goroutines of its own. The
// calls may wait: the stream goes on meanwhile. They must not call [Worker.Join].
//
// An error is final, unless it wraps [ErrTryAgain]. The library's own error does not hold its text, so the text is logged
// with the logger of [SetLogger].
type CheckpointStore interface {
	// Load gives the text that was saved last under the name, "" if there is none.
	Load(name string) (text string, err error)
	// Save replaces the text under the name. When it returns nil, the text must survive a crash of the machine; else the
	// text before must still be there.
	Save(name, text string) error
}

func setStore(options *C.ms_options, store CheckpointStore) error {
	handle := cgo.NewHandle(store)
	var failure *C.ms_error
	if status := C.msgo_set_store(options, C.uintptr_t(handle), &failure); Status(status) != StatusOK {
		handle.Delete()
		return takeError(status, failure)
	}
	return nil
}

//export mongostreamGoLoad
func mongostreamGoLoad(store C.uintptr_t, name *C.char, text **C.char) C.int32_t {
	return storeAnswer("load", C.GoString(name), func(name string) error {
		found, err := cgo.Handle(store).Value().(CheckpointStore).Load(name)
		if err != nil || found == "" {
			return err
		}
		native, err := cString(found)
		if err == nil {
			*text = native // The library frees it.
		}
		return err
	})
}

//export mongostreamGoSave
func mongostreamGoSave(store C.uintptr_t, name, text *C.char) C.int32_t {
	return storeAnswer("save", C.GoString(name), func(name string) error {
		return cgo.Handle(store).Value().(CheckpointStore).Save(name, C.GoString(text))
	})
}

//export mongostreamGoRelease
func mongostreamGoRelease(store C.uintptr_t) {
	cgo.Handle(store).Delete()
}

// storeAnswer makes the library's answer of a store's error, and of its panic, which must not reach C.
func storeAnswer(what, name string, call func(name string) error) (answer C.int32_t) {
	err := func() (err error) {
		defer func() {
			if reason := recover(); reason != nil {
				err = fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
			}
		}()
		return call(name)
	}()
	if err == nil {
		return 0
	}
	if logger := currentLogger(LogLevelError); logger != nil {
		logger.Error("the program's checkpoint store failed", slog.String("call", what),
			slog.String("checkpoint", name), slog.Any("error", err))
	}
	if errors.Is(err, ErrTryAgain) {
		return 1
	}
	return -1
}
