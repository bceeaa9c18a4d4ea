package services_test

import (
	"bytes"
	"context"
	"log"
	"math"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go/dataModel"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
	"github.com/mongostream/mongostream/bindings/go/services"
	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

// What programs of that library can have written down.
var (
	_ func(int) chan dataModel.Oplog                                                      = services.InitBuffer
	_ func(bool, uint32) *options.ChangeStreamOptions                                     = services.SetOptions
	_ func(string, string, string, chan dataModel.Oplog, ...*options.ChangeStreamOptions) = services.ListenerWorker
)

var server *ground.Set

func TestMain(m *testing.M) {
	ground.Main(m, func(set *ground.Set) { server = set })
}

// logged is what goes to the standard log.
type logged struct {
	lock  sync.Mutex
	bytes bytes.Buffer
}

func (l *logged) Write(line []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.bytes.Write(line)
}

func (l *logged) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.bytes.String()
}

func (l *logged) await(t *testing.T, what string) {
	t.Helper()
	ground.Until(t, what+" in the log", func() bool { return strings.Contains(l.String(), what) })
}

func watchLog(t *testing.T) *logged {
	lines := &logged{}
	log.SetOutput(lines)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	return lines
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, buffer chan dataModel.Oplog) dataModel.Oplog {
	t.Helper()
	select {
	case oplog := <-buffer:
		return oplog
	case <-time.After(ground.Deadline):
		t.Fatal("no message")
		panic("")
	}
}

// listen starts a worker and waits until it is open.
func listen(t *testing.T, collection *mongo.Collection, buffer chan dataModel.Oplog, cso ...*options.ChangeStreamOptions) *logged {
	t.Helper()
	lines := watchLog(t)
	go services.ListenerWorker(server.URI, collection.Database().Name(), collection.Name(), buffer, cso...)
	lines.await(t, `listening on database "`+collection.Database().Name()+`", collection "`+collection.Name()+`"`)
	return lines
}

// The driver's own stream, decoded as that library did, gives the same values.
func TestMessagesAreWhatTheDriverDecodes(t *testing.T) {
	ctx := context.Background()
	collection := server.Database(t).Collection("c")
	theirs, err := collection.Watch(ctx, mongo.Pipeline{})
	must(t, err)
	defer theirs.Close(ctx)
	buffer := services.InitBuffer(10)
	listen(t, collection, buffer)

	inserted, err := collection.InsertOne(ctx, bson.M{"a": 1})
	must(t, err)
	id := inserted.InsertedID
	for _, update := range []bson.M{
		{"$set": bson.M{"b.c": bson.M{"d": int32(1), "e": bson.A{int64(2), bson.M{"f": nil}}}, "g": "text"}},
		{"$set": bson.M{"t": primitive.DateTime(5), "o": primitive.NewObjectID(), "x": math.Inf(1), "y": true}},
		{"$unset": bson.M{"a": ""}},
	} {
		_, err := collection.UpdateByID(ctx, id, update)
		must(t, err)
	}
	_, err = collection.ReplaceOne(ctx, bson.M{"_id": id}, bson.M{"z": 1})
	must(t, err)
	_, err = collection.DeleteOne(ctx, bson.M{"_id": id})
	must(t, err)
	_, err = collection.InsertOne(ctx, bson.M{"_id": "text \x00 goes on"})
	must(t, err)
	must(t, collection.Drop(ctx))

	for theirs.Next(ctx) {
		var expected dataModel.Oplog
		must(t, theirs.Decode(&expected))
		if ours := receive(t, buffer); !reflect.DeepEqual(ours, expected) {
			t.Errorf("%#v\nand not\n%#v", ours, expected)
		}
	}
	must(t, theirs.Err())
}

func TestIdsOfOtherTypes(t *testing.T) {
	collection := server.Database(t).Collection("c")
	buffer := services.InitBuffer(0)
	listen(t, collection, buffer)
	for _, given := range []struct {
		id   any
		text string
	}{
		{7, "7"}, {2.5, "2.5"}, {true, "true"}, {bson.M{"a": 1}, `{"a":1}`}, {primitive.DateTime(1), `{"$date":"1970-01-01T00:00:00.001Z"}`},
	} {
		_, err := collection.InsertOne(context.Background(), bson.M{"_id": given.id})
		must(t, err)
		if got := receive(t, buffer).DocumentKey.DocumentId; got != given.text {
			t.Errorf("%v became %q", given.id, got)
		}
	}
}

func TestStartFromATimestamp(t *testing.T) {
	if services.SetOptions(false, 5) != nil {
		t.Error("options without a start")
	}
	begin := uint32(time.Now().Unix()) - 1
	collection := server.Database(t).Collection("c")
	ground.Insert(t, collection, 0, 3)
	buffer := services.InitBuffer(10)
	listen(t, collection, buffer, services.SetOptions(true, begin))
	if got := receive(t, buffer).DocumentKey.DocumentId; got != "0" {
		t.Error(got)
	}
}

func TestNothingIsDroppedWhereNobodyReads(t *testing.T) {
	const documents = 5000
	collection := server.Database(t).Collection("c")
	buffer := services.InitBuffer(3)
	listen(t, collection, buffer)
	ground.Insert(t, collection, 0, documents)
	ground.Until(t, "a full buffer", func() bool { return len(buffer) == 3 })
	last := ""
	for range documents {
		last = receive(t, buffer).DocumentKey.DocumentId
	}
	if last != "4999" {
		t.Error(last)
	}
}

func TestFailuresAreLoggedAndTheProcessGoesOn(t *testing.T) {
	lines := watchLog(t)
	buffer := services.InitBuffer(-1)
	if cap(buffer) != 0 {
		t.Error(cap(buffer))
	}
	lines.await(t, "-1 messages")
	// Each of them returns.
	services.ListenerWorker("nonsense", "d", "c", buffer)
	lines.await(t, "MS_ERR_ARGUMENT")
	services.ListenerWorker(server.URI, "d", "c", buffer, options.ChangeStream().SetFullDocument("nonsense"))
	lines.await(t, "full_document")
	services.ListenerWorker(server.URI, "d", "c", buffer, options.ChangeStream().SetResumeAfter(7))
	lines.await(t, "resume_after")
	services.ListenerWorker(server.URI, "d", "c", buffer, options.ChangeStream().SetResumeAfter(bson.M{"_data": "nonsense"}))
	lines.await(t, "MS_ERR_")
}

func TestServerThatIsNotThereYetIsWaitedFor(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := free.Addr().String()
	free.Close()
	collection := server.Database(t).Collection("c")
	lines := watchLog(t)
	buffer := services.InitBuffer(1)
	go services.ListenerWorker("mongodb://"+address+"/?serverSelectionTimeoutMS=200", collection.Database().Name(), "c", buffer)
	lines.await(t, "MS_ERR_CONNECT")
	_, end, err := server.Forward(address)
	must(t, err)
	defer end()
	lines.await(t, "listening on")
	ground.Insert(t, collection, 0, 1)
	receive(t, buffer)
}

func TestClosedChannelEndsTheWorker(t *testing.T) {
	collection := server.Database(t).Collection("c")
	buffer := make(chan dataModel.Oplog, 1)
	close(buffer)
	lines := watchLog(t)
	done := make(chan bool)
	go func() {
		services.ListenerWorker(server.URI, collection.Database().Name(), "c", buffer)
		close(done)
	}()
	lines.await(t, "listening on")
	ground.Insert(t, collection, 0, 1)
	<-done
	lines.await(t, "is closed")
}
