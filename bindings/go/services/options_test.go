package services

import (
	"reflect"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/mongo/options"
)

func TestOptionsOfTheDriverAreOurs(t *testing.T) {
	for _, given := range []struct {
		theirs *options.ChangeStreamOptions
		ours   mongostream.Options
	}{
		{nil, mongostream.Options{}},
		{SetOptions(true, 1586360547), mongostream.Options{"start_at_time": "1586360547:0"}},
		{options.ChangeStream().SetStartAtOperationTime(&primitive.Timestamp{T: 1, I: 2}), mongostream.Options{"start_at_time": "1:2"}},
		{options.ChangeStream().SetResumeAfter(bson.M{"_data": "82"}), mongostream.Options{"resume_after": `{"_data":"82"}`}},
		{options.ChangeStream().SetStartAfter(bson.M{"_data": "82"}), mongostream.Options{"start_after": `{"_data":"82"}`}},
		{options.ChangeStream().SetFullDocument(options.UpdateLookup), mongostream.Options{"full_document": options.UpdateLookup}},
		{options.ChangeStream().SetFullDocumentBeforeChange(options.Required), mongostream.Options{"full_document_before_change": options.Required}},
		{options.ChangeStream().SetShowExpandedEvents(true), mongostream.Options{"show_expanded_events": true}},
		{options.ChangeStream().SetBatchSize(7), mongostream.Options{"batch_size": int32(7)}},
		{options.ChangeStream().SetMaxAwaitTime(time.Second), mongostream.Options{"await_ms": time.Second}},
		{options.ChangeStream().SetComment("no effect"), mongostream.Options{}},
	} {
		if ours, err := translate(given.theirs); err != nil || !reflect.DeepEqual(ours, given.ours) {
			t.Error(ours, err, "and not", given.ours)
		}
	}
}
