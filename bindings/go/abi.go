// Code generated from the C header; DO NOT EDIT.
//
// Generated from the C header and the table of options: do not edit. `MONGOSTREAM_WRITE=1 cargo
// test --workspace --test generated` writes it anew.

package mongostream

// Status has the constants of ms_status.
type Status int32

const (
	StatusOK          Status = 0
	StatusTimeout     Status = 1
	StatusClosed      Status = 2
	StatusArgument    Status = -1
	StatusState       Status = -2
	StatusForked      Status = -3
	StatusInUse       Status = -4
	StatusResource    Status = -5
	StatusConnect     Status = -10
	StatusAuth        Status = -11
	StatusServer      Status = -12
	StatusHistoryLost Status = -13
	StatusInvalidated Status = -14
	StatusCheckpoint  Status = -15
	StatusOversized   Status = -16
	StatusFenced      Status = -17
	StatusPanic       Status = -99
)

// LogLevel has the constants of ms_log_level.
type LogLevel int32

const (
	LogLevelOff   LogLevel = 0
	LogLevelError LogLevel = 1
	LogLevelWarn  LogLevel = 2
	LogLevelInfo  LogLevel = 3
	LogLevelDebug LogLevel = 4
)

// WorkerState has the constants of ms_worker_state.
type WorkerState int32

const (
	StateStarting     WorkerState = 0
	StateStreaming    WorkerState = 1
	StateReconnecting WorkerState = 2
	StateStopped      WorkerState = 3
	StateFailed       WorkerState = 4
	StateStandby      WorkerState = 5
)
