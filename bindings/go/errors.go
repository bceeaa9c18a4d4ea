package mongostream

// #include "bridge.h"
import "C"

import (
	"errors"
	"strings"
)

// ErrClosed says that nothing more will come: the buffer is drained, and closed or without a running worker. From
// [Worker.WaitReady] it says that the worker was stopped before its stream was open. It is no failure.
var ErrClosed = errors.New("mongostream: closed")

// ErrTryAgain marks an error of a [CheckpointStore] as temporary: the library then makes the same call again.
//
//	return fmt.Errorf("%w: %w", mongostream.ErrTryAgain, err)
var ErrTryAgain = errors.New("try again later")

// Error is what the library says when something fails.
//
//	var failure *mongostream.Error
//	if errors.As(err, &failure) && failure.Retriable { ... }
//	if errors.Is(err, mongostream.StatusAuth) { ... }
type Error struct {
	// Message says what failed, on which deployment, and what to do. It never holds credentials.
	Message string
	// Status is the kind of failure.
	Status Status
	// ServerCode is the server's error code, 0 if the error is not the server's.
	ServerCode int32
	// Retriable is true where the same call, or the same worker started again, may succeed without a change by you.
	Retriable bool
	// Worker is the name of the worker that failed. Receiving may go on. "" if the mistake is your own.
	Worker string
}

// Error gives worker, message and the status's name.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString("mongostream: ")
	if e.Worker != "" {
		text.WriteString(e.Worker + ": ")
	}
	text.WriteString(e.Message + " (" + e.Status.String() + ")")
	return text.String()
}

// Unwrap gives the status, so that errors.Is finds it.
func (e *Error) Unwrap() error {
	return e.Status
}

// String gives the status's name in the C header, such as "MS_ERR_AUTH"; "MS_UNKNOWN" for a number that is none.
func (s Status) String() string {
	return C.GoString(C.ms_status_name(C.int32_t(s)))
}

// Error makes a status something that errors.Is can look for. It gives the same as String.
func (s Status) Error() string {
	return s.String()
}

// String gives "starting", "streaming", "reconnecting", "stopped", "failed" or "standby", the words of the statistics.
func (s WorkerState) String() string {
	switch s {
	case StateStarting:
		return "starting"
	case StateStreaming:
		return "streaming"
	case StateReconnecting:
		return "reconnecting"
	case StateStopped:
		return "stopped"
	case StateFailed:
		return "failed"
	case StateStandby:
		return "standby"
	}
	return "unknown"
}

// takeError makes Go's error of C's, and frees that.
func takeError(status C.ms_status, failure *C.ms_error) error {
	if failure == nil {
		return &Error{Status: Status(status), Message: "the library gave no reason"}
	}
	defer C.ms_error_free(failure)
	return &Error{
		Message:    C.GoString(C.ms_error_message(failure)),
		Status:     Status(C.ms_error_status(failure)),
		ServerCode: int32(C.ms_error_server_code(failure)),
		Retriable:  bool(C.ms_error_is_retriable(failure)),
		Worker:     C.GoString(C.ms_error_worker(failure)),
	}
}

// wrongUse is the error of a call that cannot be meant.
func wrongUse(status Status, message string) *Error {
	return &Error{Status: status, Message: message}
}
