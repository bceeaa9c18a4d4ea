// Package services has the functions of the Go library mongoStream. A program written for that library goes on with only
// its import paths changed:
//
//	import (
//		"github.com/mongostream/mongostream/bindings/go/dataModel"
//		"github.com/mongostream/mongostream/bindings/go/services"
//	)
//
//	buffer := services.InitBuffer(10)
//	go services.ListenerWorker("mongodb://localhost:27017", "database", "collection1", buffer)
//	for {
//		log.Println("received:", <-buffer)
//	}
//
// The streams are those of package mongostream. What is different: a broken connection is opened again where it was, ids
// may be of any type, and no failure ends the process. Programs that are written anew use package mongostream itself: it
// can stop a stream, tells failures, and keeps checkpoints.
package services

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/dataModel"
	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo/options"
)

// InitBuffer makes the channel that workers put their messages into. bufferSize is how many messages wait in it; a number
// below 0 is logged and counts as 0.
func InitBuffer(bufferSize int) chan dataModel.Oplog {
	if bufferSize < 0 {
		log.Printf("mongostream: a buffer of %d messages; it will hold none", bufferSize)
		bufferSize = 0
	}
	return make(chan dataModel.Oplog, bufferSize)
}

// ListenerWorker follows a collection and puts its changes into the buffer. A full buffer makes it wait; nothing is
// dropped. collection "" is the whole database, and database "" as well the whole deployment.
//
// It runs for as long as its stream does, so start it with go. It writes to the standard log: one line as soon as every
// later change will be delivered, and one for each failure. After a failure that may pass (the servers cannot be reached
// at the start) it tries again, where it was, after a pause of 1 s to 30 s. After any other failure (wrong options, wrong
// credentials, lost history) it returns. It also returns when the buffer is closed.
func ListenerWorker(mongoUri string, database string, collection string, buffer chan dataModel.Oplog, csoOptional ...*options.ChangeStreamOptions) {
	var settings mongostream.Options
	if len(csoOptional) > 0 {
		var err error
		if settings, err = translate(csoOptional[0]); err != nil {
			log.Println("mongostream: stream options:", err)
			return
		}
	}
	listener := &listener{uri: mongoUri, database: database, collection: collection, buffer: buffer}
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		err := listener.listen(settings)
		if err == nil {
			return
		}
		log.Println(err)
		var failure *mongostream.Error
		if !errors.As(err, &failure) || !failure.Retriable {
			return
		}
		if listener.place != "" {
			settings = maps.Clone(settings)
			if settings == nil {
				settings = mongostream.Options{}
			}
			delete(settings, "start_at_time")
			delete(settings, "resume_after")
			settings["start_after"] = listener.place
		}
		if listener.isOpen {
			pause = time.Second
		}
		time.Sleep(pause)
	}
}

// listener is one call of ListenerWorker.
type listener struct {
	uri, database, collection string
	buffer                    chan dataModel.Oplog
	// The token after the last message that was put into the buffer.
	place string
	// Whether the last stream has been open.
	isOpen bool
}

// listen runs one stream to its end. nil: it is not wanted any more.
func (l *listener) listen(settings mongostream.Options) error {
	l.isOpen = false
	queue := mongostream.NewBuffer(1024)
	defer queue.Free()
	worker, err := queue.Watch(l.uri, l.database, l.collection, settings)
	if err != nil {
		return err
	}
	defer func() {
		if place := worker.ResumeToken(); place != "" {
			l.place = place
		}
		worker.Close()
	}()
	// Why it cannot be opened comes through the queue.
	if worker.WaitReady(context.Background()) == nil {
		l.isOpen = true
		log.Printf("mongostream: listening on database %q, collection %q", l.database, l.collection)
	}
	for message, err := range queue.Messages(context.Background()) {
		if err != nil {
			return err
		}
		oplog, err := decode(message)
		if err != nil {
			log.Println("mongostream:", err)
		}
		if !send(l.buffer, oplog) {
			log.Println("mongostream: the buffer of", worker.Name(), "is closed; its stream ends")
			return nil
		}
		message.Ack()
		message.Close()
	}
	return nil
}

// send puts a message into the channel; false if that is closed.
func send(buffer chan dataModel.Oplog, oplog dataModel.Oplog) (sent bool) {
	// A send panics for this reason only.
	defer func() { sent = recover() == nil }()
	buffer <- oplog
	return
}

// decode makes an Oplog of an event. What cannot be decoded is missing in it.
func decode(message *mongostream.Message) (dataModel.Oplog, error) {
	event := bson.Raw(message.BSON())
	// The event without its id: there a value that is no text would be an error.
	var rest struct {
		Namespace         dataModel.OplogNamespaceObject         `bson:"ns"`
		OperationType     string                                 `bson:"operationType"`
		UpdateDescription dataModel.OplogUpdateDescriptionObject `bson:"updateDescription"`
	}
	err := bson.Unmarshal(event, &rest)
	if err != nil {
		err = fmt.Errorf("an event of %s cannot be decoded: %w", message.Namespace(), err)
		rest.OperationType = message.Operation()
	}
	id := message.DocumentID()
	// Here without an end at a NUL.
	if text, ok := event.Lookup("documentKey", "_id").StringValueOK(); ok {
		id = text
	}
	return dataModel.Oplog{
		DocumentKey:       dataModel.OplogDocumentKeyObject{DocumentId: id},
		Namespace:         rest.Namespace,
		OperationType:     rest.OperationType,
		UpdateDescription: rest.UpdateDescription,
	}, err
}
