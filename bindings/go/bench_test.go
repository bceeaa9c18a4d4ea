package mongostream_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo"
)

// Each benchmark reads the same documents again and again:
//
//	go test -run - -bench . -benchtime 1x

const benchDocuments = 200_000

var benchCollection = sync.OnceValue(func() func(testing.TB) *mongo.Collection {
	var collection *mongo.Collection
	return func(b testing.TB) *mongo.Collection {
		if collection == nil {
			collection = server.Database(b).Collection("c")
			text := strings.Repeat("x", 300)
			for from := 0; from < benchDocuments; from += 10_000 {
				var documents []any
				for id := from; id < from+10_000; id++ {
					documents = append(documents, bson.M{"_id": id, "v": text})
				}
				insert(b, collection, documents...)
			}
		}
		return collection
	}
})

// receiveAll gives a buffer that holds all documents, so that the server's pace does not count.
func receiveAll(b *testing.B, work func(*mongostream.Buffer)) {
	collection := benchCollection()(b)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		buffer := mongostream.NewBufferWith(benchDocuments, 1<<30)
		_, err := buffer.Watch(server.URI, collection.Database().Name(), "c",
			mongostream.Options{"start_at_time": time.Now().Add(-time.Hour)})
		must(b, err)
		ground.Until(b, "a full buffer", func() bool { return buffer.Len() == benchDocuments })
		b.StartTimer()
		work(buffer)
		b.StopTimer()
		buffer.Free()
		b.StartTimer()
	}
	b.ReportMetric(float64(benchDocuments*b.N)/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkMessages(b *testing.B) {
	receiveAll(b, func(buffer *mongostream.Buffer) {
		count, bytes := 0, 0
		for message, err := range buffer.Messages(context.Background()) {
			must(b, err)
			bytes += len(message.JSON())
			message.Ack()
			message.Close()
			if count++; count == benchDocuments {
				break
			}
		}
	})
}

func BenchmarkMessagesOfEightGoroutines(b *testing.B) {
	receiveAll(b, func(buffer *mongostream.Buffer) {
		ctx, cancel := context.WithCancel(context.Background())
		count, waits := atomic.Int64{}, sync.WaitGroup{}
		for range 8 {
			start(&waits, func() {
				for message, err := range buffer.Messages(ctx) {
					if err != nil {
						return
					}
					message.JSON()
					message.Ack()
					message.Close()
					if count.Add(1) == benchDocuments {
						cancel()
					}
				}
			})
		}
		waits.Wait()
		cancel()
	})
}

func BenchmarkBatches(b *testing.B) {
	receiveAll(b, func(buffer *mongostream.Buffer) {
		count, bytes := 0, 0
		for batch, err := range buffer.Batches(context.Background(), 1000) {
			must(b, err)
			bytes += len(batch.Lines())
			batch.Ack()
			count += batch.Len()
			batch.Close()
			if count == benchDocuments {
				break
			}
		}
	})
}

// From an insert to its message, one at a time: each is a wait.
func BenchmarkOneMessageAtATime(b *testing.B) {
	buffer, _, collection := follow(b, nil)
	b.ResetTimer()
	for id := range b.N {
		ground.Insert(b, collection, id, id+1)
		next(b, buffer).Ack()
	}
}
