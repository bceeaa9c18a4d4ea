package mongostream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
)

func TestAccessorsOfAnInsert(t *testing.T) {
	buffer, worker, collection := follow(t, mongostream.Options{"name": "orders"})
	before := time.Now().Add(-time.Minute)
	insert(t, collection, bson.M{"_id": "seven"})
	message := next(t, buffer)
	if got := message.Operation(); got != "insert" {
		t.Error("operation:", got)
	}
	if got := message.Namespace(); got != collection.Database().Name()+".c" {
		t.Error("namespace:", got)
	}
	if got := message.DocumentID(); got != "seven" {
		t.Error("id:", got)
	}
	if got := message.Worker(); got != "orders" || worker.Name() != got {
		t.Error("worker:", got, worker.Name())
	}
	at, known := message.ClusterTime()
	if !known || at.Time().Before(before) || at.Increment == 0 {
		t.Error("cluster time:", at, known)
	}
	if got := message.UpdatedPaths(); len(got) != 0 {
		t.Error("updated paths:", got)
	}
	object := parsed(t, message.JSON())
	if token := parsed(t, message.ResumeToken()); !reflect.DeepEqual(token, object["ResumeToken"]) {
		t.Error("token:", token, "in the JSON:", object["ResumeToken"])
	}
	if got := fmt.Sprint(message); got != message.JSON() {
		t.Error("printed:", got)
	}
	if got := message.AppendJSON([]byte("> ")); string(got) != "> "+message.JSON() {
		t.Errorf("appended: %s", got)
	}
	var event struct {
		OperationType string
		FullDocument  bson.M
	}
	must(t, bson.Unmarshal(message.BSON(), &event))
	if event.FullDocument["_id"] != "seven" {
		t.Error("BSON:", event)
	}
}

func TestUpdatedPaths(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	insert(t, collection, bson.M{"_id": 1, "lines": bson.A{bson.M{"count": 1}}})
	_, err := collection.UpdateByID(context.Background(), 1, bson.M{"$set": bson.M{"lines.0.count": 2, "a": 1}})
	must(t, err)
	next(t, buffer)
	paths := next(t, buffer).UpdatedPaths()
	if !reflect.DeepEqual(paths, []string{"lines.count", "a"}) && !reflect.DeepEqual(paths, []string{"a", "lines.count"}) {
		t.Error(paths)
	}
}

func TestDocumentOfASnapshotHasNoTime(t *testing.T) {
	collection := server.Database(t).Collection("c")
	insert(t, collection, bson.M{"_id": 1})
	buffer := mongostream.NewBuffer(10)
	defer buffer.Free()
	watch(t, buffer, collection, mongostream.Options{"snapshot": "initial"})
	message := next(t, buffer)
	if at, known := message.ClusterTime(); known || message.ResumeToken() != "" || message.Operation() != "snapshot" {
		t.Error(at, known, message.ResumeToken(), message.Operation())
	}
}

func TestAWorkerStartsAfterAPositionAlsoInASnapshot(t *testing.T) {
	collection := server.Database(t).Collection("c")
	insert(t, collection, bson.M{"_id": 1}, bson.M{"_id": 2})
	position := ""
	for _, id := range []string{"1", "2"} {
		buffer := mongostream.NewBuffer(10)
		watch(t, buffer, collection, mongostream.Options{"snapshot": "initial", "start_at_position": position})
		message := next(t, buffer)
		if message.DocumentID() != id || message.Operation() != "snapshot" {
			t.Error(message.DocumentID(), message.Operation(), "and not", id)
		}
		position = message.Position()
		buffer.Free()
	}
}

func TestEveryTypeOfValue(t *testing.T) {
	oid, err := primitive.ObjectIDFromHex("abababababababababababab")
	must(t, err)
	decimal, err := primitive.ParseDecimal128("1.50")
	must(t, err)
	cases := []struct {
		value any
		json  string
	}{
		{1.5, `1.5`},
		{math.Inf(1), `{"$numberDouble":"Infinity"}`},
		{"text", `"text"`},
		{bson.D{{Key: "z", Value: int32(1)}, {Key: "a", Value: bson.D{}}}, `{"z":1,"a":{}}`},
		{bson.A{int32(1), bson.A{}}, `[1,[]]`},
		{primitive.Binary{Subtype: 0x80, Data: []byte("x")}, `{"$binary":{"base64":"eA==","subType":"80"}}`},
		{primitive.Undefined{}, `{"$undefined":true}`},
		{oid, `{"$oid":"abababababababababababab"}`},
		{true, `true`},
		{primitive.DateTime(1), `{"$date":"1970-01-01T00:00:00.001Z"}`},
		{primitive.Null{}, `null`},
		{primitive.Regex{Pattern: "a/b", Options: "i"}, `{"$regularExpression":{"pattern":"a/b","options":"i"}}`},
		{primitive.DBPointer{DB: "d.c", Pointer: oid}, `{"$dbPointer":{"$ref":"d.c","$id":{"$oid":"abababababababababababab"}}}`},
		{primitive.JavaScript("f"), `{"$code":"f"}`},
		{primitive.Symbol("s"), `{"$symbol":"s"}`},
		{primitive.CodeWithScope{Code: "f", Scope: bson.D{{Key: "a", Value: "b"}}}, `{"$code":"f","$scope":{"a":"b"}}`},
		{int32(math.MinInt32), `-2147483648`},
		{primitive.Timestamp{T: 1, I: 2}, `{"$timestamp":{"t":1,"i":2}}`},
		{int64(math.MaxInt64), `9223372036854775807`},
		{decimal, `{"$numberDecimal":"1.50"}`},
		{primitive.MinKey{}, `{"$minKey":1}`},
		{primitive.MaxKey{}, `{"$maxKey":1}`},
	}
	buffer, _, collection := follow(t, nil)
	for index, given := range cases {
		insert(t, collection, bson.D{{Key: "_id", Value: index}, {Key: "v", Value: given.value}})
		message := next(t, buffer)
		var found struct {
			FullDocument struct {
				V json.RawMessage `json:"v"`
			}
		}
		must(t, json.Unmarshal([]byte(message.JSON()), &found))
		if string(found.FullDocument.V) != given.json {
			t.Errorf("%T: %s and not %s", given.value, found.FullDocument.V, given.json)
		}
		kind, data, err := bson.MarshalValue(given.value)
		must(t, err)
		value := bson.Raw(message.BSON()).Lookup("fullDocument", "v")
		if value.Type != kind || !bytes.Equal(value.Value, data) {
			t.Errorf("%T: %v in BSON", given.value, value)
		}
	}
}

func TestOddText(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	for index, text := range []string{
		"\u2028 \u2029 \u0085", "\x00 in the middle \x00", "\x01\x1f\x7f", "\"\\/\b\f\n\r\t", "ü € 𝄞 😀", "\ufeff", "<&>", "",
	} {
		insert(t, collection, bson.D{{Key: "_id", Value: index}, {Key: "v", Value: text}})
		message := next(t, buffer)
		if strings.ContainsAny(message.JSON(), "\n\r") {
			t.Errorf("%q: more than one line", text)
		}
		if got := parsed(t, message.JSON())["FullDocument"].(map[string]any)["v"]; got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestMessagesNear16MB(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	text := strings.Repeat("ü", 8_387_000)
	insert(t, collection, bson.M{"_id": 1, "v": text})
	message := next(t, buffer)
	if got := parsed(t, message.JSON())["FullDocument"].(map[string]any)["v"]; got != text {
		t.Errorf("%d bytes became %d", len(text), len(got.(string)))
	}
	if got := len(message.BSON()); got < len(text) {
		t.Error("BSON of", got, "bytes")
	}
}
