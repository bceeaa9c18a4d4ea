package mongostream

// #include "bridge.h"
import "C"

import (
	"encoding/json"
	"fmt"
)

// Stats are figures of a buffer and its workers. docs/STATISTICS.md describes each of them.
type Stats struct {
	// Depth is how many messages the library has queued now; those that wait in Go for the next receive count as
	// delivered.
	Depth int64 `json:"depth"`
	// HighWater is the most that were ever queued at once.
	HighWater int64 `json:"high_water"`
	// Bytes are the bytes of BSON that are queued now.
	Bytes int64 `json:"bytes"`
	// Capacity is the bound in messages.
	Capacity int64 `json:"capacity"`
	// MaxBytes is the bound in bytes of BSON.
	MaxBytes int64 `json:"max_bytes"`
	// Failures are the failures of workers that no consumer has received yet.
	Failures int64 `json:"failures"`
	// WaitedMS is for how many milliseconds workers have waited for room, added up over all workers.
	WaitedMS int64 `json:"waited_ms"`
	// Closed is true after Buffer.Close.
	Closed bool `json:"closed"`
	// Workers are those that run, in the order of their starts, then those that have ended.
	Workers []WorkerStats `json:"workers"`

	// JSON is what the library gave: keys of later versions are there.
	JSON json.RawMessage `json:"-"`
}

// WorkerStats are figures of one worker. What is nil is not known yet, or does not exist.
type WorkerStats struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Namespace string `json:"namespace"`
	// Received and Delivered count messages, their Bytes bytes of BSON.
	Received       int64 `json:"received"`
	ReceivedBytes  int64 `json:"received_bytes"`
	Delivered      int64 `json:"delivered"`
	DeliveredBytes int64 `json:"delivered_bytes"`
	Unacked        int64 `json:"unacked"`
	Reconnects     int64 `json:"reconnects"`
	Attempts       int64 `json:"attempts"`
	// LastError never shows credentials.
	LastError       *string `json:"last_error"`
	LastErrorStatus *string `json:"last_error_status"`
	// Milliseconds.
	LagMS                *int64         `json:"lag_ms"`
	LastEventMSAgo       *int64         `json:"last_event_ms_ago"`
	OpenedMSAgo          *int64         `json:"opened_ms_ago"`
	CheckpointSavedMSAgo *int64         `json:"checkpoint_saved_ms_ago"`
	CheckpointLagMS      *int64         `json:"checkpoint_lag_ms"`
	CheckpointError      *string        `json:"checkpoint_error"`
	Snapshot             *SnapshotStats `json:"snapshot"`
	// Lease is nil without the option "standby", and before it is known.
	Lease *LeaseStats `json:"lease"`
}

// SnapshotStats tell how far a snapshot has come.
type SnapshotStats struct {
	Finished  bool   `json:"finished"`
	Namespace string `json:"namespace"`
	Documents int64  `json:"documents"`
	Estimated int64  `json:"estimated"`
}

// LeaseStats tell who holds the lease of a worker that may stand by, as the worker has seen it last.
type LeaseStats struct {
	// Holder is "host:process".
	Holder string `json:"holder"`
	// Term grows by one whenever the lease is taken.
	Term int64 `json:"term"`
	// SinceUnixMS says when it was taken: milliseconds since 1970, by the server's clock.
	SinceUnixMS int64 `json:"since_unix_ms"`
	// Held says whether this worker may hand over now.
	Held bool `json:"held"`
}

// Stats gives the figures of the buffer and of each of its workers. Cheap enough to be asked for every second.
func (b *Buffer) Stats() (Stats, error) {
	var stats Stats
	if err := b.use(); err != nil {
		return stats, err
	}
	defer b.life.RUnlock()
	stats.JSON = json.RawMessage(takeString(C.ms_buffer_stats(b.pointer)))
	if err := json.Unmarshal(stats.JSON, &stats); err != nil {
		return stats, fmt.Errorf("mongostream: the library's statistics: %w", err)
	}
	return stats, nil
}

// MetricsContentType is the Content-Type of what Buffer.Metrics gives.
const MetricsContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// Metrics gives the same figures as OpenMetrics text, for an HTTP server that Prometheus asks.
func (b *Buffer) Metrics() (string, error) {
	if err := b.use(); err != nil {
		return "", err
	}
	defer b.life.RUnlock()
	return takeString(C.ms_buffer_metrics(b.pointer)), nil
}
