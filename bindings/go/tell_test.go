package mongostream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
)

// text is a buffer for several goroutines.
type text struct {
	lock  sync.Mutex
	bytes bytes.Buffer
}

func (w *text) Write(line []byte) (int, error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.bytes.Write(line)
}

func (w *text) has(what ...string) bool {
	w.lock.Lock()
	defer w.lock.Unlock()
	for _, part := range what {
		if !strings.Contains(w.bytes.String(), part) {
			return false
		}
	}
	return true
}

func setLogger(t *testing.T, logger *slog.Logger, level mongostream.LogLevel) {
	t.Helper()
	must(t, mongostream.SetLogger(logger, level))
	t.Cleanup(func() { must(t, mongostream.SetLogger(nil, 0)) })
}

func TestLogGoesToALogger(t *testing.T) {
	log := &text{}
	setLogger(t, slog.New(slog.NewJSONHandler(log, nil)), mongostream.LogLevelInfo)
	follow(t, mongostream.Options{"name": "told"})
	ground.Until(t, "a line", func() bool { return log.has(`"level":"INFO"`, `"worker":"told"`) })
	_, err := mongostream.NewBuffer(1).Watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=10", "d", "c", nil)
	must(t, err)
	ground.Until(t, "an error", func() bool { return log.has(`"level":"ERROR"`, "127.0.0.1:1") })
}

func TestLogLevelIsALimit(t *testing.T) {
	log := &text{}
	setLogger(t, slog.New(slog.NewJSONHandler(log, nil)), mongostream.LogLevelError)
	_, worker, _ := follow(t, nil)
	worker.Stop()
	must(t, worker.Join(soon(t)))
	if log.has("INFO") {
		t.Error(log.bytes.String())
	}
	if err := mongostream.SetLogger(slog.Default(), 77); !errors.Is(err, mongostream.StatusArgument) {
		t.Error(err)
	}
}

// wild is a handler that does what it must not.
type wild struct {
	slog.Handler
	answer chan error
}

func (h wild) Handle(context.Context, slog.Record) error {
	select {
	case h.answer <- mongostream.SetLogger(nil, 0):
	default:
	}
	panic("a handler's")
}

func TestLoggerThatPanicsOrSetsAnotherHarmsNobody(t *testing.T) {
	handler := wild{slog.NewTextHandler(io.Discard, nil), make(chan error, 1)}
	setLogger(t, slog.New(handler), mongostream.LogLevelDebug)
	buffer, _, collection := follow(t, nil)
	if err := <-handler.answer; !errors.Is(err, mongostream.StatusState) {
		t.Error(err)
	}
	ground.Insert(t, collection, 0, 1)
	next(t, buffer)
}

func TestFailureOfAStoreIsLogged(t *testing.T) {
	log := &text{}
	setLogger(t, slog.New(slog.NewJSONHandler(log, nil)), mongostream.LogLevelError)
	buffer := mongostream.NewBuffer(1)
	defer buffer.Free()
	mine := &store{loads: []any{errors.New("no such table")}}
	_, err := buffer.Watch(server.URI, "d", "c", mongostream.Options{"checkpoint_store": mine, "checkpoint_name": "n"})
	must(t, err)
	ground.Until(t, "the line", func() bool { return log.has("no such table", `"call":"load"`, `"checkpoint":"n"`) })
}

func everyKeyHasAField(t *testing.T, stats mongostream.Stats) {
	t.Helper()
	strict := json.NewDecoder(bytes.NewReader(stats.JSON))
	strict.DisallowUnknownFields()
	must(t, strict.Decode(&mongostream.Stats{}))
}

func TestStatisticsOfAStandby(t *testing.T) {
	database := server.Database(t).Name()
	options := mongostream.Options{"standby": true, "lease_ms": 60000, "checkpoint_collection": database + ".checkpoints"}
	buffer, holder, collection := follow(t, options)
	others := mongostream.NewBuffer(1024)
	defer others.Free()
	standby, err := others.Watch(server.URI, collection.Database().Name(), collection.Name(), options)
	must(t, err)
	lease := func(buffer *mongostream.Buffer) *mongostream.LeaseStats {
		stats, err := buffer.Stats()
		must(t, err)
		everyKeyHasAField(t, stats)
		return stats.Workers[0].Lease
	}
	ground.Until(t, "the other worker stands by", func() bool {
		return standby.State() == mongostream.StateStandby && lease(others) != nil
	})
	held, seen := lease(buffer), lease(others)
	if !held.Held || held.Term != 1 || held.SinceUnixMS < 1e12 || !strings.Contains(held.Holder, ":") {
		t.Errorf("%+v", held)
	}
	if seen.Held || seen.Term != 1 || seen.Holder != held.Holder || seen.SinceUnixMS != held.SinceUnixMS {
		t.Errorf("%+v", seen)
	}
	buffer.Close()
	must(t, holder.Join(soon(t)))
	must(t, standby.WaitReady(soon(t)))
	if taken := lease(others); !taken.Held || taken.Term != 2 {
		t.Errorf("%+v", taken)
	}
}

func TestStatistics(t *testing.T) {
	buffer, worker, collection := follow(t, mongostream.Options{"name": "counted"})
	ground.Insert(t, collection, 0, 3)
	settled(t, buffer, 3)
	stats, err := buffer.Stats()
	must(t, err)
	if stats.Depth != 3 || stats.HighWater != 3 || stats.Bytes == 0 || stats.Capacity != 1024 || stats.MaxBytes != 64<<20 ||
		stats.Closed || len(stats.Workers) != 1 {
		t.Errorf("%+v", stats)
	}
	if got := stats.Workers[0]; got.Name != "counted" || got.State != worker.State().String() || got.Received != 3 ||
		got.Unacked != 3 || got.Delivered != 0 || got.LagMS == nil || got.OpenedMSAgo == nil || got.LastError != nil ||
		got.Snapshot != nil || got.Namespace != collection.Database().Name()+".c" {
		t.Errorf("%+v", got)
	}
	everyKeyHasAField(t, stats)
	buffer.Close()
	if stats, err = buffer.Stats(); err != nil || !stats.Closed {
		t.Error(stats, err)
	}
}

func TestMetrics(t *testing.T) {
	buffer, _, _ := follow(t, mongostream.Options{"name": "counted"})
	metrics, err := buffer.Metrics()
	must(t, err)
	if !strings.HasSuffix(metrics, "# EOF\n") || !strings.Contains(metrics, `"counted"`) {
		t.Error(metrics)
	}
}
