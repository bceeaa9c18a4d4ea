package mongostream_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
	"go.mongodb.org/mongo-driver/bson"
)

// refused gives the error with which work panics.
func refused(work func()) (err error) {
	defer func() { err, _ = recover().(error) }()
	work()
	return nil
}

func TestClosedMessageIsAClearError(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 2)
	message := next(t, buffer)
	message.Close()
	message.Close()
	for name, use := range map[string]func(){
		"JSON": func() { message.JSON() }, "BSON": func() { message.BSON() }, "Ack": message.Ack,
		"Clone": func() { message.Clone() }, "Operation": func() { message.Operation() },
		"ClusterTime": func() { message.ClusterTime() }, "UpdatedPaths": func() { message.UpdatedPaths() },
		"ResumeToken": func() { message.ResumeToken() }, "Worker": func() { message.Worker() },
		"Namespace": func() { message.Namespace() }, "DocumentID": func() { message.DocumentID() },
		"AppendJSON": func() { message.AppendJSON(nil) },
	} {
		if err := refused(use); !errors.Is(err, mongostream.StatusState) {
			t.Error(name, err)
		}
	}
	if got := next(t, buffer).DocumentID(); got != "1" {
		t.Error("its neighbour:", got)
	}
}

func TestClosedBatchIsAClearError(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 6)
	settled(t, buffer, 6)
	next(t, buffer)
	part, err := buffer.RecvBatch(soon(t), 2)
	must(t, err)
	rest, err := buffer.RecvBatch(soon(t), 9)
	must(t, err)
	for _, batch := range []*mongostream.Batch{part, rest} {
		clone := batch.Message(0).Clone()
		batch.Close()
		for name, use := range map[string]func(){
			"Lines": func() { batch.Lines() }, "Ack": batch.Ack, "Message": func() { batch.Message(1).JSON() },
		} {
			if err := refused(use); !errors.Is(err, mongostream.StatusState) {
				t.Error(name, err)
			}
		}
		if clone.DocumentID() == "" {
			t.Error("the clone is empty")
		}
	}
}

func TestFreedBufferIsAClearError(t *testing.T) {
	buffer, worker, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 3)
	settled(t, buffer, 3)
	message := next(t, buffer)
	buffer.Free()
	buffer.Free()
	buffer.Close()
	if _, err := buffer.Recv(soon(t)); err != mongostream.ErrClosed {
		t.Error("Recv:", err)
	}
	if _, err := buffer.Stats(); !errors.Is(err, mongostream.StatusState) {
		t.Error("Stats:", err)
	}
	if _, err := buffer.Metrics(); !errors.Is(err, mongostream.StatusState) {
		t.Error("Metrics:", err)
	}
	if _, err := buffer.Watch(server.URI, "d", "c", nil); !errors.Is(err, mongostream.StatusState) {
		t.Error("Watch:", err)
	}
	if buffer.Len() != 0 {
		t.Error("Len:", buffer.Len())
	}
	must(t, worker.Join(soon(t)))
	worker.Close()
	worker.Close()
	worker.Stop()
	if err := worker.Join(soon(t)); !errors.Is(err, mongostream.StatusState) {
		t.Error("Join:", err)
	}
	if worker.ResumeToken() != "" || worker.State() != mongostream.StateStopped || worker.Name() == "" {
		t.Error(worker.ResumeToken(), worker.State(), worker.Name())
	}
	// Messages outlive both.
	if message.DocumentID() != "0" || !strings.Contains(message.JSON(), "insert") {
		t.Error(message)
	}
	message.Ack()
}

func TestCloneAndOriginalShareOneAck(t *testing.T) {
	buffer, worker, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 1)
	message := next(t, buffer)
	clone := message.Clone()
	message.Close()
	clone.Ack()
	if token := clone.ResumeToken(); token != worker.ResumeToken() {
		t.Error(token, worker.ResumeToken())
	}
}

func TestEverythingMayBeClosedWhileItIsUsed(t *testing.T) {
	for range 20 {
		buffer, worker, collection := follow(t, nil)
		ground.Insert(t, collection, 0, 30)
		message := next(t, buffer)
		batch, err := buffer.RecvBatch(soon(t), 3)
		must(t, err)
		waits := sync.WaitGroup{}
		for _, use := range []func(){
			func() { message.JSON() }, message.Ack, func() { message.Clone().Close() }, message.Close,
			func() { batch.Lines() }, batch.Ack, batch.Close, func() { batch.Message(1).BSON() },
			func() { buffer.Recv(context.Background()) }, func() { buffer.Stats() }, buffer.Close, buffer.Free,
			func() { buffer.Len() }, func() { buffer.Watch(server.URI, "d", "c", nil) }, func() { buffer.Metrics() },
			func() { worker.Join(context.Background()) }, worker.Stop, worker.Close, func() { worker.ResumeToken() },
			func() { worker.State() },
		} {
			start(&waits, func() {
				if err := refused(use); err != nil && !errors.Is(err, mongostream.StatusState) {
					t.Error(err)
				}
			})
		}
		waits.Wait()
	}
}

func TestMessagesOutliveTheirCollectedBuffer(t *testing.T) {
	before := mongostream.Held()
	collection := server.Database(t).Collection("c")
	var worker *mongostream.Worker
	held := func() []*mongostream.Message {
		buffer := mongostream.NewBuffer(100)
		worker = watch(t, buffer, collection, nil)
		ground.Insert(t, collection, 0, 100)
		settled(t, buffer, 100)
		return []*mongostream.Message{next(t, buffer), next(t, buffer)}
	}()
	if !mongostream.CollectUntil(func() bool { return released(t, collection.Database().Name()) }) {
		t.Error("the worker of a buffer that nobody has runs on")
	}
	runtime.KeepAlive(worker)
	for index, message := range held {
		if parsed(t, message.JSON())["DocumentKey"].(map[string]any)["_id"] != float64(index) {
			t.Error(message)
		}
		message.Ack()
	}
	held = nil
	if !mongostream.CollectUntil(func() bool { return mongostream.Held() <= before }) {
		t.Error("not freed:", mongostream.Held()-before, "bytes")
	}
}

// released tells whether the server has no stream any more on a database.
func released(t *testing.T, database string) bool {
	var found struct {
		Cursor struct {
			FirstBatch []bson.Raw `bson:"firstBatch"`
		} `bson:"cursor"`
	}
	operations := bson.D{{Key: "aggregate", Value: 1}, {Key: "cursor", Value: bson.M{}}, {Key: "pipeline", Value: bson.A{
		bson.M{"$currentOp": bson.M{"idleCursors": true}},
		bson.M{"$match": bson.M{"ns": bson.M{"$regex": "^" + database + "[.]"}, "cursor.tailable": true}},
	}}}
	must(t, server.Database(t).Client().Database("admin").RunCommand(context.Background(), operations).Decode(&found))
	return len(found.Cursor.FirstBatch) == 0
}

func TestAWorkerRunsAlthoughNobodyHoldsIt(t *testing.T) {
	collection := server.Database(t).Collection("c")
	buffer := mongostream.NewBuffer(100)
	defer buffer.Free()
	func() {
		worker := watch(t, buffer, collection, nil)
		runtime.KeepAlive(worker)
	}()
	if released(t, collection.Database().Name()) {
		t.Fatal("the test does not see the stream")
	}
	for range 5 {
		mongostream.CollectUntil(func() bool { return true })
	}
	ground.Insert(t, collection, 0, 1)
	next(t, buffer)
}

func TestLibrarysMemoryBringsTheCollector(t *testing.T) {
	const documents = 80
	collection := server.Database(t).Collection("c")
	begin := time.Now()
	text := strings.Repeat("x", 4<<20)
	for id := range documents {
		insert(t, collection, bson.M{"_id": id, "v": text})
	}
	buffer := mongostream.NewBuffer(10)
	defer buffer.Free()
	watch(t, buffer, collection, mongostream.Options{"start_at_time": begin})
	mongostream.CollectUntil(func() bool { return true })
	debug.FreeOSMemory()
	before := resident(t)
	for range documents {
		// Nobody closes it, and Go itself has nothing to collect.
		next(t, buffer).Ack()
	}
	if grown := resident(t) - before; grown > documents*4*3/4 {
		t.Errorf("the process has grown by %d MiB", grown)
	}
}

// resident gives the process's memory in MiB.
func resident(t *testing.T) int {
	pages, err := os.ReadFile("/proc/self/statm")
	must(t, err)
	count, err := strconv.Atoi(strings.Fields(string(pages))[1])
	must(t, err)
	return count * os.Getpagesize() >> 20
}
