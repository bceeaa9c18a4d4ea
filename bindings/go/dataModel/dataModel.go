// Package dataModel has the messages of package services: the types of the Go library mongoStream, field by field.
package dataModel

// Oplog is one change.
type Oplog struct {
	// DocumentKey tells which document has changed.
	DocumentKey OplogDocumentKeyObject `bson:"documentKey"`
	// Namespace tells where.
	Namespace OplogNamespaceObject `bson:"ns"`
	// OperationType is the server's name of the operation, such as "insert".
	OperationType string `bson:"operationType"`
	// UpdateDescription tells what an update has set.
	UpdateDescription OplogUpdateDescriptionObject `bson:"updateDescription"`
}

// OplogDocumentKeyObject is a document's id.
type OplogDocumentKeyObject struct {
	// DocumentId is the _id as a text: an ObjectId's 24 hexadecimal digits, a string itself, any other value as its
	// relaxed Extended JSON ("7"); "" where the event has no document.
	DocumentId string `bson:"_id"`
}

// OplogNamespaceObject is a collection. Events without one, or without a database, have "" there.
type OplogNamespaceObject struct {
	Database   string `bson:"db"`
	Collection string `bson:"coll"`
}

// OplogUpdateDescriptionObject is what an update has set.
type OplogUpdateDescriptionObject struct {
	// UpdatedFields are the new values by their dotted paths, as the driver decodes them; nil for other operations.
	UpdatedFields map[string]interface{} `bson:"updatedFields"`
}

// ChangeStreamDocument is a change in the flat form that programs of that library store.
type ChangeStreamDocument struct {
	Id                  string `bson:"_id"`
	Database            string `bson:"database"`
	Collection          string `bson:"collection"`
	OperationType       string `bson:"operationType"`
	TriggerUpdatedField string `bson:"triggerUpdatedField"`
}
