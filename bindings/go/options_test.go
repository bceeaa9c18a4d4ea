package mongostream_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
	"go.mongodb.org/mongo-driver/bson"
)

func TestValuesBecomeText(t *testing.T) {
	type word string
	for _, given := range []struct {
		value any
		text  string
	}{
		{"plain", "plain"}, {word("own"), "own"}, {true, "true"}, {false, "false"}, {1000, "1000"}, {int64(-1), "-1"},
		{uint32(7), "7"}, {1e6, "1000000"}, {time.Minute, "60000"}, {time.Unix(1586360547, 1), "1586360547"},
		{[]string{"a", "b"}, `["a","b"]`}, {[]map[string]any{{"$match": map[string]any{"a": 1}}}, `[{"$match":{"a":1}}]`},
		{json.RawMessage("[1 ]"), "[1 ]"}, {mongostream.ClusterTime{Seconds: 5, Increment: 6}, "5:6"},
	} {
		if text, err := mongostream.OptionText(given.value); err != nil || text != given.text {
			t.Errorf("%#v became %q, %v", given.value, text, err)
		}
	}
}

func TestOptionsReachTheLibrary(t *testing.T) {
	buffer, _, collection := follow(t, mongostream.Options{
		"operations": []string{"insert"}, "format": "event", "batch_size": 10, "retry_ms": time.Minute, "name": nil,
		"pipeline": []any{map[string]any{"$match": map[string]any{"fullDocument.wanted": true}}},
	})
	insert(t, collection, bson.M{"_id": 1, "wanted": false}, bson.M{"_id": 2, "wanted": true})
	object := parsed(t, next(t, buffer).JSON())
	if document, ok := object["fullDocument"].(map[string]any); !ok || document["_id"] != 2.0 {
		t.Error(object)
	}
}

func TestStartAtATime(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 3)
	next(t, buffer)
	at, _ := next(t, buffer).ClusterTime()
	again := mongostream.NewBuffer(10)
	defer again.Free()
	watch(t, again, collection, mongostream.Options{"start_at_time": at})
	if got := next(t, again).DocumentID(); got != "1" && got != "0" {
		t.Error(got)
	}
}

func TestWholeDatabaseAndDeployment(t *testing.T) {
	database := server.Database(t)
	buffer := mongostream.NewBuffer(1000)
	defer buffer.Free()
	for _, scope := range []string{database.Name(), ""} {
		worker, err := buffer.Watch(server.URI, scope, "", nil)
		must(t, err)
		must(t, worker.WaitReady(soon(t)))
		ground.Insert(t, database.Collection("c"+scope), 0, 1)
		for message, err := range buffer.Messages(soon(t)) {
			must(t, err)
			// Other tests write to the deployment too.
			if message.Namespace() == database.Name()+".c"+scope {
				break
			}
		}
		worker.Stop()
	}
}

func TestTableOfOptions(t *testing.T) {
	table, err := mongostream.DescribeOptions()
	must(t, err)
	index := slices.IndexFunc(table, func(option mongostream.OptionInfo) bool { return option.Name == "on_oversized" })
	if index < 0 {
		t.Fatal(table)
	}
	option := table[index]
	if option.Kind != "choice" || !slices.Contains(option.Choices, "skip") || *option.Default != "split" ||
		option.Text == "" || option.Values == "" {
		t.Errorf("%#v", option)
	}
}
