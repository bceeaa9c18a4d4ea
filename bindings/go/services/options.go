package services

import (
	"fmt"
	"log"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/mongo/options"
)

// SetOptions makes the options of a stream that starts at startTime, in unix seconds, with the changes of that second.
// If resumability is false they are nil, and the stream starts now.
func SetOptions(resumability bool, startTime uint32) *options.ChangeStreamOptions {
	if !resumability {
		return nil
	}
	return options.ChangeStream().SetStartAtOperationTime(&primitive.Timestamp{T: startTime})
}

// translate says the driver's options as those of package mongostream.
func translate(stream *options.ChangeStreamOptions) (mongostream.Options, error) {
	translated := mongostream.Options{}
	if stream == nil {
		return translated, nil
	}
	if at := stream.StartAtOperationTime; at != nil {
		translated["start_at_time"] = fmt.Sprintf("%d:%d", at.T, at.I)
	}
	for name, token := range map[string]any{"resume_after": stream.ResumeAfter, "start_after": stream.StartAfter} {
		if token != nil {
			json, err := bson.MarshalExtJSON(token, false, false)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			translated[name] = string(json)
		}
	}
	if stream.FullDocument != nil {
		translated["full_document"] = *stream.FullDocument
	}
	if stream.FullDocumentBeforeChange != nil {
		translated["full_document_before_change"] = *stream.FullDocumentBeforeChange
	}
	if stream.ShowExpandedEvents != nil {
		translated["show_expanded_events"] = *stream.ShowExpandedEvents
	}
	if stream.BatchSize != nil && *stream.BatchSize > 0 {
		translated["batch_size"] = *stream.BatchSize
	}
	if stream.MaxAwaitTime != nil && *stream.MaxAwaitTime >= time.Millisecond {
		translated["await_ms"] = *stream.MaxAwaitTime
	}
	if stream.Collation != nil || stream.Comment != nil || len(stream.Custom) > 0 || len(stream.CustomPipeline) > 0 {
		log.Println("mongostream: the stream options Collation, Comment, Custom and CustomPipeline have no effect")
	}
	return translated, nil
}
