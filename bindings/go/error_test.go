package mongostream_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mongostream/mongostream/bindings/go"
)

func TestStartRefusesWhatIsWrong(t *testing.T) {
	buffer := mongostream.NewBuffer(10)
	defer buffer.Free()
	for _, wrong := range []struct {
		what, uri, database, collection string
		options                         mongostream.Options
		text                            string
	}{
		{"a bad URI", "nonsense://", "d", "c", nil, "nonsense"},
		{"no URI", "", "d", "c", nil, ""},
		{"an unknown option", server.URI, "d", "c", mongostream.Options{"no_option": 1}, "no_option"},
		{"a bad value", server.URI, "d", "c", mongostream.Options{"batch_size": "many"}, "batch_size"},
		{"options that exclude each other", server.URI, "d", "c",
			mongostream.Options{"start_at_time": 1, "resume_after": `{"_data":"82"}`}, "start_at_time"},
		{"a collection without a database", server.URI, "", "c", nil, ""},
		{"a NUL in a name", server.URI, "d", "c\x00d", nil, "NUL"},
		{"a NUL in a value", server.URI, "d", "c", mongostream.Options{"name": "a\x00b"}, "NUL"},
		{"text that is not UTF-8", server.URI, "d", "c", mongostream.Options{"name": "a\xff"}, "UTF-8"},
		{"a value without JSON", server.URI, "d", "c", mongostream.Options{"pipeline": func() {}}, "pipeline"},
		{"a store that is none", server.URI, "d", "c", mongostream.Options{"checkpoint_store": 1}, "CheckpointStore"},
	} {
		worker, err := buffer.Watch(wrong.uri, wrong.database, wrong.collection, wrong.options)
		if worker != nil || !errors.Is(err, mongostream.StatusArgument) {
			t.Errorf("%s: %v", wrong.what, err)
			continue
		}
		if found := failure(t, err); !strings.Contains(err.Error(), wrong.text) || found.Worker != "" || found.Retriable {
			t.Errorf("%s: %#v", wrong.what, found)
		}
	}
}

func TestFailureOfAWorkerComesThroughTheBuffer(t *testing.T) {
	buffer := mongostream.NewBuffer(10)
	defer buffer.Free()
	worker, err := buffer.Watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100", "d", "c",
		mongostream.Options{"name": "lost"})
	must(t, err)
	var seen []error
	for message, err := range buffer.Messages(soon(t)) {
		if message != nil {
			t.Error(message)
		}
		seen = append(seen, err)
	}
	if len(seen) != 1 {
		t.Fatal(seen)
	}
	found := failure(t, seen[0])
	if found.Status != mongostream.StatusConnect || found.Worker != "lost" || !found.Retriable || found.ServerCode != 0 {
		t.Errorf("%#v", found)
	}
	if text := seen[0].Error(); !strings.HasPrefix(text, "mongostream: lost: ") || !strings.HasSuffix(text, "(MS_ERR_CONNECT)") {
		t.Error(text)
	}
	if err := worker.WaitReady(soon(t)); !errors.Is(err, mongostream.StatusConnect) {
		t.Error("ready:", err)
	}
	if err := worker.Join(soon(t)); !errors.Is(err, mongostream.StatusConnect) {
		t.Error("join:", err)
	}
	if worker.State() != mongostream.StateFailed {
		t.Error(worker.State())
	}
}

func TestLoopGoesOnAfterAWorkersFailure(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	_, err := buffer.Watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100", "d", "c", nil)
	must(t, err)
	failed := false
	for message, err := range buffer.Messages(soon(t)) {
		if failed {
			must(t, err)
			message.Ack()
			return
		}
		if !errors.Is(err, mongostream.StatusConnect) {
			t.Fatal(message, err)
		}
		failed = true
		insert(t, collection, map[string]any{"_id": 1})
	}
	t.Error("the loop has ended")
}

func TestErrorOfTheServerHasItsCode(t *testing.T) {
	buffer := mongostream.NewBuffer(10)
	defer buffer.Free()
	_, err := buffer.Watch(server.URI, server.Database(t).Name(), "c", mongostream.Options{"pipeline": `[{"$out": "x"}]`})
	must(t, err)
	_, err = buffer.Recv(soon(t))
	if found := failure(t, err); found.Status != mongostream.StatusServer || found.ServerCode == 0 || found.Retriable {
		t.Errorf("%#v", found)
	}
}

func TestBufferWithoutRoomSaysSo(t *testing.T) {
	buffer := mongostream.NewBuffer(0)
	if _, err := buffer.Watch(server.URI, "d", "c", nil); !errors.Is(err, mongostream.StatusArgument) {
		t.Error(err)
	}
	var seen []error
	for _, err := range buffer.Messages(context.Background()) {
		seen = append(seen, err)
	}
	if len(seen) != 1 || !errors.Is(seen[0], mongostream.StatusArgument) {
		t.Error(seen)
	}
	buffer.Close()
	buffer.Free()
}

func TestStopBeforeReadyIsClosed(t *testing.T) {
	buffer := mongostream.NewBuffer(10)
	defer buffer.Free()
	worker, err := buffer.Watch("mongodb://127.0.0.1:1", "d", "c", nil)
	must(t, err)
	worker.Stop()
	if err := worker.WaitReady(soon(t)); err != mongostream.ErrClosed {
		t.Error(err)
	}
}

func TestUnknownStatusHasAName(t *testing.T) {
	if name := mongostream.Status(-7000).String(); name != "MS_UNKNOWN" {
		t.Error(name)
	}
}

func TestVersionsThatFit(t *testing.T) {
	for _, versions := range []struct {
		compiled, running uint32
		fit               bool
	}{
		{1_000, 1_000, true}, {1_000, 1_001, true}, {1_001, 1_000, false}, {1_000, 2_000, false}, {2_000, 1_000, false},
		{1_000, 1_001_000, false}, {1_002_003, 1_002_003, true}, {1_002_003, 1_004_000, true},
		{1_002_003, 1_002_002, false}, {1_002_003, 2_002_003, false},
	} {
		err := mongostream.Fits(versions.compiled, versions.running)
		if (err == nil) != versions.fit {
			t.Error(versions, err)
		}
		if err != nil && !errors.Is(err, mongostream.StatusState) {
			t.Error(err)
		}
	}
	if err := mongostream.Fits(1_002_003, 2_000_000); !strings.Contains(err.Error(), "2.0.0") || !strings.Contains(err.Error(), "1.2.3") {
		t.Error(err)
	}
	if !strings.Contains(mongostream.Version(), ".") {
		t.Error(mongostream.Version())
	}
}
