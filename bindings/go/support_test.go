package mongostream_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
	"go.mongodb.org/mongo-driver/mongo"
)

var server *ground.Set

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		child(os.Args[2:])
		return
	}
	ground.Main(m, func(set *ground.Set) { server = set })
}

// soon is a context that ends a test that hangs.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), ground.Deadline)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// follow makes a buffer with a ready worker on the collection c of a database of the test's own.
func follow(t testing.TB, options mongostream.Options) (*mongostream.Buffer, *mongostream.Worker, *mongo.Collection) {
	t.Helper()
	buffer := mongostream.NewBuffer(1024)
	t.Cleanup(buffer.Free)
	collection := server.Database(t).Collection("c")
	return buffer, watch(t, buffer, collection, options), collection
}

func watch(t testing.TB, buffer *mongostream.Buffer, collection *mongo.Collection, options mongostream.Options) *mongostream.Worker {
	t.Helper()
	worker, err := buffer.Watch(server.URI, collection.Database().Name(), collection.Name(), options)
	must(t, err)
	must(t, worker.WaitReady(soon(t)))
	return worker
}

func insert(t testing.TB, collection *mongo.Collection, documents ...any) {
	t.Helper()
	_, err := collection.InsertMany(context.Background(), documents)
	must(t, err)
}

func next(t testing.TB, buffer *mongostream.Buffer) *mongostream.Message {
	t.Helper()
	message, err := buffer.Recv(soon(t))
	must(t, err)
	return message
}

// failure gives the library's error in err.
func failure(t testing.TB, err error) *mongostream.Error {
	t.Helper()
	var failure *mongostream.Error
	if !errors.As(err, &failure) {
		t.Fatalf("no *Error: %v", err)
	}
	return failure
}

func parsed(t testing.TB, text string) map[string]any {
	t.Helper()
	var object map[string]any
	must(t, json.Unmarshal([]byte(text), &object))
	return object
}

func within(t testing.TB, limit time.Duration, what string, work func()) {
	t.Helper()
	begin := time.Now()
	work()
	if took := time.Since(begin); took > limit {
		t.Errorf("%s took %v", what, took)
	}
}

func start(waits *sync.WaitGroup, work func()) {
	waits.Add(1)
	go func() {
		defer waits.Done()
		work()
	}()
}
