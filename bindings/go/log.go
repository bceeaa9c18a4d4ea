package mongostream

// #include "bridge.h"
import "C"

import (
	"context"
	"log/slog"
	"sync/atomic"
)

type logTarget struct {
	logger *slog.Logger
	level  LogLevel
}

// No pointer goes through C: there is one logger for the process.
var target atomic.Pointer[logTarget]

// SetLogger sends every line of the library's log up to level (LogLevelError, LogLevelWarn, LogLevelInfo,
// LogLevelDebug) to logger, in place of the one before. It is one for the process. A nil logger switches the log off. No
// line holds credentials.
//
// A line is about one worker, whose name is the attribute "worker". Workers wait for the logger: let it be quick, and let
// it call nothing of this package. Without a logger nothing is logged, unless the environment variable MONGOSTREAM_LOG
// (error, warn, info or debug) asks for lines on standard error.
func SetLogger(logger *slog.Logger, level LogLevel) error {
	if err := checkVersion(); err != nil {
		return err
	}
	if logger == nil {
		level = LogLevelOff
	}
	if status := C.msgo_log_set(logger != nil, C.int32_t(level)); Status(status) != StatusOK {
		text := "a line of the log is just being written, and its logger cannot set another one"
		if Status(status) == StatusArgument {
			text = "this level of the log does not exist"
		}
		return wrongUse(Status(status), text)
	}
	target.Store(&logTarget{logger, level})
	return nil
}

// currentLogger gives the logger for lines of a level, nil if they are not wanted.
func currentLogger(level LogLevel) *slog.Logger {
	if now := target.Load(); now != nil && level <= now.level {
		return now.logger
	}
	return nil
}

//export mongostreamGoLog
func mongostreamGoLog(level C.ms_log_level, worker, message *C.char) {
	logger := currentLogger(LogLevel(level))
	if logger == nil {
		return
	}
	// A panic of the program's handler must not reach C, and there is nobody to tell.
	defer func() { _ = recover() }()
	levels := map[LogLevel]slog.Level{
		LogLevelError: slog.LevelError, LogLevelWarn: slog.LevelWarn,
		LogLevelInfo: slog.LevelInfo, LogLevelDebug: slog.LevelDebug,
	}
	logger.LogAttrs(context.Background(), levels[LogLevel(level)], C.GoString(message),
		slog.String("worker", C.GoString(worker)))
}
